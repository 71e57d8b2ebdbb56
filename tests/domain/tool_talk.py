"""Conversations with tools in the shapes of four vendors, with deaths and late answers at random places."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

Body = dict[str, Any]

VENDORS = ("chat", "responses", "anthropic", "gemini")


class Talk:
    """Makes the messages of one conversation.

    Args:
        deaths: Probability that an answer never comes.
    """

    def __init__(self, vendor: str, chance: random.Random, deaths: float = 0.15) -> None:
        self.vendor, self._chance, self._deaths = vendor, chance, deaths
        self._numbers = itertools.count(1)
        self._reuses_ids = chance.random() < 0.2
        self._is_camel = chance.random() < 0.5
        self._has_gemini_ids = chance.random() < 0.5

    def system(self) -> Body:
        """A system prompt."""
        return {"role": "system", "content": f"Prompt {next(self._numbers)}."}

    def user(self) -> Body:
        """A message of the user."""
        return self._said("user")

    def _said(self, role: str) -> Body:
        text = f"{role} says {next(self._numbers)}"
        if self.vendor == "gemini":
            return {"role": "model" if role == "assistant" else role, "parts": [{"text": text}]}
        if self.vendor == "anthropic" and self._chance.random() < 0.5:
            return {"role": role, "content": [{"type": "text", "text": text}]}
        return {"role": role, "content": text}

    def turn(self) -> Iterator[Body]:
        """The messages of one turn: the user's, perhaps steps with calls, a reply. A death ends it anywhere."""
        yield self.user()
        for _ in range(self._chance.choice((0, 0, 1, 1, 2))):
            messages = list(getattr(self, f"_{self.vendor}")(self._chance.choice((1, 1, 2, 3))))
            calls = [message for message in messages if not self._is_answer(message)]
            answers = [message for message in messages if self._is_answer(message)]
            self._chance.shuffle(answers)
            if self._chance.random() < 0.05:
                yield from calls[:1]
                return
            yield from calls
            for answer in answers:
                if self._chance.random() < 0.1:
                    yield self.user()
                if self._chance.random() >= self._deaths:
                    yield answer
                if self._chance.random() < 0.05:
                    yield answer  # a repeated attempt
        if self._chance.random() > self._deaths:
            yield self._said("assistant")

    def _is_answer(self, message: Body) -> bool:
        text = str(message)
        return any(
            word in text for word in ("'tool'", "_output", "'tool_result'", "nction_resp", "nctionResp", "_response'")
        )

    def _ids(self, count: int) -> list[str]:
        first = 0 if self._reuses_ids else next(self._numbers) * 10
        return [f"call_{first + index}" for index in range(count)]

    def _chat(self, count: int) -> Iterator[Body]:
        ids = self._ids(count)
        calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
        yield {"role": "assistant", "content": self._chance.choice((None, "Let me see.")), "tool_calls": calls}
        yield from ({"role": "tool", "tool_call_id": one, "content": "42"} for one in ids)

    def _responses(self, count: int) -> Iterator[Body]:
        reasoning = f"rs_{next(self._numbers)}" if self._chance.random() < 0.6 else None
        led = {"_of": reasoning} if reasoning else {}
        if reasoning:
            yield {"type": "reasoning", "id": reasoning, "summary": []}
        if self._chance.random() < 0.2:
            text = [{"type": "output_text", "text": "Let me see."}]
            yield {"type": "message", "role": "assistant", "id": f"msg_{next(self._numbers)}", "content": text, **led}
        kinds = ("function_call", "function_call", "custom_tool_call", "computer_call", "shell_call", "mcp")
        for _ in range(count):
            number, kind = next(self._numbers), self._chance.choice(kinds)
            if kind == "mcp":
                yield {"type": "mcp_approval_request", "id": f"mcpr_{number}", "name": "f", "arguments": "{}", **led}
                yield {"type": "mcp_approval_response", "approval_request_id": f"mcpr_{number}", "approve": True}
                continue
            yield {
                "type": kind,
                "id": f"fc_{number}",
                "call_id": f"call_{number}",
                "name": "f",
                "arguments": "{}",
                **led,
            }
            yield {"type": f"{kind}_output", "call_id": f"call_{number}", "output": "42"}

    def _anthropic(self, count: int) -> Iterator[Body]:
        ids = self._ids(count)
        parts: list[Body] = [{"type": "thinking", "thinking": "…", "signature": "x"}] * self._chance.randint(0, 1)
        parts += [{"type": "text", "text": "Let me see."}] * self._chance.randint(0, 1)
        if self._chance.random() < 0.2:
            server = f"srv_{next(self._numbers)}"
            parts += [{"type": "server_tool_use", "id": server, "name": "web_search", "input": {}}]
            parts += [{"type": "web_search_tool_result", "tool_use_id": server, "content": []}] * (
                self._chance.random() > self._deaths
            )
        parts += [{"type": "tool_use", "id": one, "name": "f", "input": {}} for one in ids]
        yield {"role": "assistant", "content": parts}
        results: list[Body] = [{"type": "tool_result", "tool_use_id": one, "content": "42"} for one in ids]
        rest: list[Body] = [{"type": "text", "text": "go on"}] * self._chance.randint(0, 1)
        yield from self._divided(results, rest, "content")

    def _gemini(self, count: int) -> Iterator[Body]:
        names = [self._chance.choice("fgh") for _ in range(count)]
        ids = [{"id": one} if self._has_gemini_ids else {} for one in self._ids(count)]
        call, response = (
            ("functionCall", "functionResponse") if self._is_camel else ("function_call", "function_response")
        )
        calls: list[Body] = [{call: {**i, "name": name, "args": {}}} for i, name in zip(ids, names, strict=True)]
        calls[0]["thought_signature"] = "sig"
        yield {"role": "model", "parts": [{"text": "Let me see."}] * self._chance.randint(0, 1) + calls}
        results: list[Body] = [
            {response: {**i, "name": name, "response": {}}} for i, name in zip(ids, names, strict=True)
        ]
        yield from self._divided(results, [{"text": "go on"}] * self._chance.randint(0, 1), "parts")

    def _divided(self, results: list[Body], rest: list[Body], place: str) -> Iterator[Body]:
        """Messages with results: one, or several, sometimes with other parts behind or before."""
        if self._chance.random() < 0.6:
            parts = [*rest, *results] if self._chance.random() < 0.1 else [*results, *rest]
            yield {"role": "user", place: parts}
            return
        for result in results:
            yield {"role": "user", place: [result, *rest]}


def talk(vendor: str, seed: int) -> list[Body]:
    """A whole history."""
    chance = random.Random(seed)
    one = Talk(vendor, chance)
    prompts = [one.system() for _ in range(chance.choice((0, 1, 1, 2)))]
    return [*prompts, *(message for _ in range(chance.randint(1, 6)) for message in one.turn())]


def redacted(body: Body) -> Body:
    """Make the body that ``redact`` leaves."""
    return {"role": body["role"], "content": ""} if "role" in body else {"content": ""}
