"""Replies and messages of the vendors' SDKs, as they come. Stand-ins have the attributes of the real objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace as Thing
from typing import Any

import pydantic
import pytest

from flask_convstore.operations.turns import as_message

from ..service import Service


class Dumped(Thing):
    """An object that knows how it becomes JSON, as those of OpenAI, Anthropic and LangChain."""

    def model_dump(self, mode: str = "python") -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def openai_chunks() -> Iterator[Any]:
    yield Thing(choices=[Thing(delta=Thing(role="assistant", content=None))])
    yield Thing(choices=[Thing(delta=Thing(content="Hel"))])
    yield Thing(choices=[Thing(delta=Thing(content="lo"))])
    yield Thing(choices=[])  # the usage


def openai_events() -> Iterator[Any]:
    yield Dumped(type="response.created", response=Thing(output_text=""))
    yield Dumped(type="response.function_call_arguments.delta", delta="{}")
    yield Dumped(type="response.output_text.delta", delta="Hel")
    yield Dumped(type="response.output_text.delta", delta="lo")
    yield Dumped(type="response.output_text.done", text="Hello")
    yield Dumped(type="response.completed", response=Thing(output_text="Hello"))


def anthropic_events() -> Iterator[Any]:
    yield Dumped(type="message_start")
    yield Dumped(type="content_block_delta", delta=Thing(type="text_delta", text="Hel"))
    yield Dumped(type="text", text="Hel", snapshot="Hel")  # the same again, as its helper for streams tells it
    yield Dumped(type="content_block_delta", delta=Thing(type="text_delta", text="lo"))
    yield Dumped(type="message_delta", delta=Thing(stop_reason="end_turn"))


REPLIES: dict[str, Any] = {
    "a completion of OpenAI": lambda: Dumped(choices=[Thing(message=Dumped(role="assistant", content="Hello"))]),
    "its message": lambda: Dumped(role="assistant", content="Hello"),
    "its stream": openai_chunks,
    "a response of OpenAI": lambda: Dumped(output_text="Hello", output=[], text=Thing(format="text")),
    "the events of a response": openai_events,
    "a message of Anthropic": lambda: Dumped(
        role="assistant", content=[Thing(type="text", text="Hel"), Thing(text="lo")]
    ),
    "its stream of events": anthropic_events,
    "a message of LangChain": lambda: Dumped(type="ai", content="Hello"),
    "its stream of messages": lambda: iter(
        [Dumped(type="AIMessageChunk", content="Hel"), Dumped(type="AIMessageChunk", content="lo")]
    ),
    "a response of Gemini": lambda: Thing(text="Hello", to_dict=dict),
    "texts, with a delta that is None": lambda: iter(["Hel", None, "lo"]),
}


@pytest.mark.parametrize("kind", REPLIES)
def test_an_sdk_s_reply_is_the_assistant_s_text(kind: str) -> None:
    assert as_message(REPLIES[kind](), "s") == {"role": "assistant", "content": "Hello"}


@pytest.mark.parametrize("reply", [5, [1], object(), iter([5]), Dumped(choices=[])])
def test_anything_else_is_refused_by_name(reply: Any) -> None:
    with pytest.raises(TypeError, match=r"a (reply|chunk of a reply) is a text"):
        as_message(reply, "s")


def test_a_stream_of_an_async_sdk_is_joined(service: Service) -> None:
    @service.convstore.reply
    async def answer(turn: Any) -> AsyncIterator[Any]:
        async def chunks() -> AsyncIterator[Any]:
            for chunk in openai_chunks():
                yield chunk

        return chunks()

    assert service.say(service.start())["reply"]["content"] == "Hello"


class Model(pydantic.BaseModel):
    role: str
    content: str
    tool_calls: list[str] | None = None


def test_messages_of_an_sdk_are_stored_as_what_they_dump(service: Service) -> None:
    """``history.append(response.choices[0].message)``, the most common line."""
    convstore, expected = service.convstore, {"role": "assistant", "content": "hi", "tool_calls": None}
    with service.app.app_context():
        convstore.save_session("s", {"history": []})
        convstore.append("s", Model(role="assistant", content="hi"))
        with convstore.turn("s", "yo") as turn:
            turn.reply(Model(role="assistant", content="hi"))
        convstore.sessions["s"]["history"].append(Model(role="assistant", content="hi"))
    with service.app.app_context():
        history = convstore.sessions["s"]["history"]
    assert [history[0], history[-1]] == [expected, expected]
