"""Pairs: a call of a tool with its answer. A model's API refuses one of them without the other.

The one rule for every history that a model is shown. ``groups`` divides messages into what belongs together, and leaves out
what a model's API refuses. Stored messages stay as they are. The forms of four APIs are known:

- OpenAI Chat: ``tool_calls`` with messages of role ``tool``, and ``function_call`` with role ``function``. Also without ids.
- OpenAI Responses: items ``<any>_call`` with ``<any>_call_output`` by ``call_id``, ``mcp_approval_request`` with
  ``mcp_approval_response``, and ``reasoning`` with the items that follow it.
- Anthropic: parts ``tool_use`` with parts ``tool_result``. Pairs of the vendor's own tools stand in messages of the model.
- Gemini: parts ``function_call`` with parts ``function_response``, also ``functionCall`` and ``functionResponse``.

Each answer comes directly behind its call, as these APIs want it, wherever it was stored. Half a pair is left out. Other
forms stay untouched.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, NamedTuple

INTERRUPTED = "interrupted: this call has no result"
"""Text of the result of a call that was never answered."""

_KEYS = frozenset(
    ("tool_calls", "tool_call_id", "function_call", "type", "parts"),
)
"""Keys of a message that may be half a pair."""
_DICT = {dict}
_CALLS = ("function_call", "functionCall")
_RESPONSES = ("function_response", "functionResponse")
_SIGNED = frozenset(("thought_signature", "thoughtSignature"))
_GONE = {"content": ""}
"""A message of which nothing is left. It may have been a reasoning."""
_PROMPTS = ("system", "developer")
_THOUGHTS = ("thinking", "redacted_thinking")
_SPEAKS = ("refusal", "audio")
"""Keys beside ``content`` and ``parts`` with which a message says something."""


class Group(NamedTuple):
    """Messages that belong together, oldest first.

    Attributes:
        follows: The group must follow a message of another role than the model's.
    """

    messages: list[Any]
    follows: bool = False


def is_prompt(message: Any) -> bool:
    """Tell whether a message is the app's word to the model, such as a system prompt."""
    return isinstance(message, dict) and message.get("role") in _PROMPTS


def is_item(message: Any) -> bool:
    """Tell whether a message is an item of OpenAI Responses that has no role, such as a call or its output."""
    return isinstance(message, dict) and "role" not in message and (bool(_of_item(message)) or _is_models(message))


def whole(messages: Sequence[Any], orphans: str = "drop", cuts: Collection[int] = ()) -> list[Any]:
    """Select the messages that a model's API takes. Arguments as ``groups``."""
    if are_plain(messages):
        return list(messages)
    return joined(groups(messages, orphans, cuts))


def joined(found: Iterable[Group]) -> list[Any]:
    """List the messages of groups, without those that have lost the message that they must follow."""
    listed: list[Any] = []
    follows = False
    for group in found:
        if not group.follows or follows:
            listed += group.messages
            is_models = _role(group.messages[-1]) in ("model", "assistant")
            follows = not is_models if not is_prompt(group.messages[-1]) else follows
    return listed


def groups(messages: Sequence[Any], orphans: str = "drop", cuts: Collection[int] = ()) -> list[Group]:
    """Divide messages into groups that belong together, without half pairs and without empty messages.

    The newest message stays, unless it is half a pair.

    Args:
        orphans: Treatment of a call without an answer: ``drop`` leaves the call out, ``answer`` gives it a result that says
            it was interrupted.
        cuts: Places of messages before which others were left out. What may need those is left out too.
    """
    if are_plain(messages):
        return [Group([message]) for message in messages]
    entries = _entries(messages, cuts)
    _match(entries)
    units = _units(entries)
    for unit in units:
        unit.leave_orphans(orphans)
    return [group for unit in units for group in unit.groups(is_newest=unit is units[-1])]


def _entries(messages: Sequence[Any], cuts: Collection[int]) -> list[_Entry]:
    """Make the entries of messages, with one that is gone at each cut. A cut among the first prompts stands behind them."""
    entries = [_Entry(message, _pieces(message)) for message in messages]
    heads = sum(1 for _ in itertools.takewhile(is_prompt, messages)) if cuts else 0
    for place in sorted({max(place, heads) for place in cuts}, reverse=True):
        entries.insert(place, _Entry(_GONE, []))
    return entries


def whole_start(messages: Sequence[Any], start: int) -> int:
    """Find where a copy that begins at *start* can begin, so that it has no half of what stands before. *start* or later."""
    if start and _is_models(messages[start - 1]):
        while start < len(messages) and _is_led(messages[start]):
            start += 1
    while start < len(messages) and _only_answers(messages[start]):
        start += 1
    return start


def _is_led(body: Any) -> bool:
    return _is_models(body) and _type(body) != "reasoning" and bool(_text(body, "id"))


def _only_answers(body: Any) -> bool:
    entry = _Entry(body, _pieces(body))
    return bool(entry.answers) and entry.rest() is _GONE


def are_plain(messages: Sequence[Any]) -> bool:
    """Tell whether no message can be half a pair, has parts, or is empty. Nearly all histories are so, and this is quick."""
    dicts = messages if set(map(type, messages)) == _DICT else [one for one in messages if isinstance(one, dict)]
    if not _KEYS.isdisjoint(set().union(*dicts)):
        return False
    contents = list(map(methodcaller("get", "content"), dicts))
    roles = list(map(methodcaller("get", "role"), dicts))
    return not (list in set(map(type, contents)) or "" in contents or "tool" in roles or "function" in roles)


@dataclass(slots=True, eq=False)
class _Piece:
    """A call or an answer in a message.

    Attributes:
        place: Key of the list in the message that has it. "": it is the message itself, or all of ``function_call``.
        at: Index in this list.
        form: Form of the pair. Both halves have the same.
        id, name: "" if it has none.
        source: The item or part itself.
        partner: The other half.
        stays: It is shown.
    """

    place: str
    at: int
    form: str
    id: str
    name: str
    is_call: bool
    source: dict[str, Any]
    partner: _Piece | None = None
    stays: bool = True

    @property
    def is_servers(self) -> bool:
        """Both halves are the model's."""
        return self.form == "server"

    @property
    def is_signed(self) -> bool:
        """It carries a signature for all calls of its message (Gemini)."""
        return self.form == "gemini" and not _SIGNED.isdisjoint(self.source)

    def is_whole(self, orphans: str) -> bool:
        """Tell whether it has its other half, or will get one."""
        return self.partner is not None or (orphans == "answer" and self.is_call and bool(_interruption(self)))

    @property
    def lacks_answer(self) -> bool:
        """It is shown, and was never answered."""
        return self.is_call and self.stays and self.partner is None


@dataclass(slots=True, eq=False)
class _Entry:
    """A message with its pieces.

    Attributes:
        is_gone: It is not shown, whatever it says.
    """

    body: Any
    pieces: list[_Piece]
    is_gone: bool = False

    @property
    def calls(self) -> list[_Piece]:
        return [piece for piece in self.pieces if piece.is_call]

    @property
    def answers(self) -> list[_Piece]:
        """Answers that stand behind the message of their call."""
        return [piece for piece in self.pieces if not piece.is_call and not piece.is_servers]

    def shown(self) -> Any:
        """Make the body as it is shown. ``_GONE`` if it is not."""
        return _GONE if self.is_gone else self.without([piece for piece in self.pieces if not piece.stays])

    def rest(self) -> Any:
        """Make the body without all calls and answers. ``_GONE`` if nothing is left."""
        return self.without(self.pieces)

    def without(self, removed: list[_Piece]) -> Any:
        """Make the body without some pieces. ``_GONE`` if nothing is left that says something."""
        if not removed:
            return self.body
        body = dict(self.body)
        for place in {piece.place for piece in removed}:
            if not place and removed[0].form != "legacy":
                return _GONE
            gone = {piece.at for piece in removed if piece.place == place}
            _take_out(body, place, gone)
        return body if _says_something(body) else _GONE


def _take_out(body: dict[str, Any], place: str, gone: set[int]) -> None:
    """Take some parts out of the list at *place*. "": the only call of OpenAI's former kind, or the whole answer to it."""
    left = [part for at, part in enumerate(body[place]) if at not in gone] if place else []
    if not place:
        body.pop("function_call", None)
        if body.get("role") == "function":
            body.clear()
    elif left or place != "tool_calls":
        body[place] = left
    else:
        del body[place]


def _says_something(body: dict[str, Any]) -> bool:
    if body.get("tool_calls") or any(body.get(key) for key in _SPEAKS):
        return True
    said = body.get("content") or body.get("parts") or ()
    return isinstance(said, str) or not all(map(_is_thought, said))


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") in _THOUGHTS or bool(part.get("thought")))


def _is_left(body: Any, *, is_newest: bool = False) -> bool:
    return body is not _GONE and (is_newest or not _is_empty(body))


def _is_empty(body: Any) -> bool:
    """Tell whether a message says nothing, such as one that was redacted."""
    return isinstance(body, dict) and body.get("content") == "" and body.keys() <= {"role", "content"}


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


# ---- the forms


def _pieces(body: Any) -> list[_Piece]:
    """Find the calls and answers in a message."""
    if not isinstance(body, dict):
        return []
    return _of_item(body) or [*_of_message(body), *_of_parts(body, "content"), *_of_parts(body, "parts")]


def _of_item(body: dict[str, Any]) -> list[_Piece]:
    """Find the half of a pair that an item of OpenAI Responses is."""
    kind = body.get("type")
    if not isinstance(kind, str):
        return []
    if kind == "mcp_approval_request":
        return [_Piece("", 0, "mcp_approval", _text(body, "id"), "", True, body)]
    if kind == "mcp_approval_response":
        return [_Piece("", 0, "mcp_approval", _text(body, "approval_request_id"), "", False, body)]
    if kind.endswith("_call_output") or (kind == "tool_search_output" and _text(body, "call_id")):
        form = kind.removesuffix("_output").removesuffix("_call") + "_call"
        return [_Piece("", 0, form, _text(body, "call_id") or _text(body, "id"), "", False, body)]
    if kind.endswith("_call") and _text(body, "call_id"):
        return [_Piece("", 0, kind, body["call_id"], "", True, body)]
    return []


def _of_message(body: dict[str, Any]) -> list[_Piece]:
    """Find the halves in a message of OpenAI Chat, beside its content."""
    role = body.get("role")
    is_parts = isinstance(body.get("content"), list) or "parts" in body
    if _text(body, "tool_call_id") or (role == "tool" and not is_parts):
        name = _text(body, "tool_name") or _text(body, "name")
        return [_Piece("", 0, "chat", _text(body, "tool_call_id"), name, False, body)]
    if role == "function" and not is_parts:
        return [_Piece("", 0, "legacy", "", _text(body, "name"), False, body)]
    return _chat_calls(body)


def _chat_calls(body: dict[str, Any]) -> list[_Piece]:
    legacy, calls = body.get("function_call"), body.get("tool_calls")
    if isinstance(legacy, dict):
        return [_Piece("", 0, "legacy", "", _text(legacy, "name"), True, body)]
    found = enumerate(calls if isinstance(calls, list) else ())
    return [_chat_call(at, call) for at, call in found if isinstance(call, dict)]


def _chat_call(at: int, call: dict[str, Any]) -> _Piece:
    named = call.get("function") if isinstance(call.get("function"), dict) else call
    return _Piece("tool_calls", at, "chat", _text(call, "id"), _text(named, "name"), True, call)


def _of_parts(body: dict[str, Any], place: str) -> list[_Piece]:
    """Find the pieces among the parts of a message of Anthropic or Gemini."""
    parts = body.get(place)
    if not isinstance(parts, list):
        return []
    found = ((at, _of_part(part)) for at, part in enumerate(parts) if isinstance(part, dict))
    return [_Piece(place, at, *piece, parts[at]) for at, piece in found if piece]


def _of_part(part: dict[str, Any]) -> tuple[str, str, str, bool] | None:
    """Find form, id, name of the call or answer that a part is, and whether it is a call. None if it is neither."""
    kind = part.get("type")
    if isinstance(kind, str) and kind.endswith("tool_use"):
        return "anthropic" if kind == "tool_use" else "server", _text(part, "id"), "", True
    if isinstance(kind, str) and kind.endswith("tool_result"):
        return "anthropic" if kind == "tool_result" else "server", _text(part, "tool_use_id"), "", False
    for keys, is_call in ((_CALLS, True), (_RESPONSES, False)):
        for key in keys:
            if isinstance(part.get(key), dict):
                return "gemini", _text(part[key], "id"), _text(part[key], "name"), is_call
    return None


def _text(holder: Any, key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


# ---- halves find each other

_Open = dict[tuple[str, ...], list[deque[_Piece]]]
"""Calls without an answer, by form and id, or form and name. Those of one message are together."""


def _match(entries: list[_Entry]) -> None:
    """Give each answer the newest call before it that it answers. The first answer to a call counts."""
    open_calls: _Open = {}
    for entry in entries:
        together: dict[tuple[str, ...], deque[_Piece]] = {}
        for piece in entry.pieces:
            if piece.is_call:
                for key in _keys(piece):
                    together.setdefault(key, deque()).append(piece)
            else:
                call = _taken(together, open_calls, piece)
                if call:
                    piece.partner, call.partner = call, piece
        for key, calls in together.items():
            open_calls.setdefault(key, []).append(calls)
    for entry in entries:
        for piece in entry.pieces:
            piece.stays = piece.is_call or piece.partner is not None


def _keys(piece: _Piece) -> list[tuple[str, ...]]:
    """List the keys under which a call is found. An answer is looked for under the first."""
    by_name = [(piece.form, "", piece.name), (piece.form, "")]
    if not piece.id:
        return by_name if piece.name else by_name[1:]
    return [(piece.form, piece.id, piece.name), *by_name] if piece.form == "gemini" else [(piece.form, piece.id)]


def _taken(together: dict[tuple[str, ...], deque[_Piece]], open_calls: _Open, answer: _Piece) -> _Piece | None:
    """Take the call that *answer* answers from those that are open."""
    key = _keys(answer)[0]
    if answer.is_servers and key in together:
        return together[key].popleft() if together[key] else None
    stack = open_calls.get(key, [])
    while stack:
        while stack[-1]:
            call = stack[-1].popleft()
            if call.partner is None:
                return call
        stack.pop()
    return None


# ---- what belongs together


@dataclass(slots=True, eq=False)
class _Unit:
    """A step of the model with the answers to its calls. Or another message, alone.

    Attributes:
        entries: Messages of the step.
        answers: Messages that answer it.
        is_over: An answer has come, of this step or of none. What the model says from then on is another step.
        is_straight: The only answer stands directly behind the step, and may stay as it is.
        rests: Rests of messages that stand behind the answers.
    """

    entries: list[_Entry]
    answers: list[_Entry] = field(default_factory=list)
    is_over: bool = False
    is_straight: bool = False
    is_left_out: bool = False
    rests: list[Any] = field(default_factory=list)

    @property
    def calls(self) -> list[_Piece]:
        return [call for entry in self.entries for call in entry.calls]

    def leave_orphans(self, orphans: str) -> None:
        """Take out the calls that have no answer and get none, and what cannot be without them."""
        self._leave_unled()
        for entry in self.entries:
            for piece in entry.pieces:
                piece.stays = not entry.is_gone and piece.is_whole(orphans)
        self.is_left_out = self._has_lost_led()
        is_torn = self.is_left_out or any(call.is_signed and not call.stays for call in self.calls)
        for call in self.calls:
            call.stays = call.stays and not is_torn
            (call.partner or call).stays = call.stays

    def _leave_unled(self) -> None:
        """Leave out items behind a message of which nothing is left. Their reasoning may have been that one."""
        is_behind = False
        for entry in self.entries:
            entry.is_gone = is_behind and bool(_text(entry.body, "id"))
            is_behind = is_behind or _is_empty(entry.body)

    def _has_lost_led(self) -> bool:
        """Tell whether a reasoning has lost the item that must follow it."""
        if not _is_reasoning(self.entries[0].body):
            return False
        led = next((entry for entry in self.entries if not _is_reasoning(entry.body)), None)
        return led is None or _is_empty(led.shown()) or not all(call.stays for call in led.calls)

    def groups(self, *, is_newest: bool = False) -> list[Group]:
        """Make the groups of this unit, if anything is left of it. The newest message stays, also if it is empty."""
        found = [Group([rest]) for rest in self.rests]
        if self.is_left_out:
            return found
        heads = [body for body in map(_Entry.shown, self.entries) if _is_left(body, is_newest=is_newest)]
        stay = [call for call in self.calls if call.stays and not call.is_servers]
        if not stay:
            return [Group(heads), *found] if heads else found
        return [Group(heads + self._answers(stay), follows=stay[0].form == "gemini"), *found]

    def _answers(self, calls: list[_Piece]) -> list[Any]:
        """Make the messages that answer *calls*."""
        missing = [_interruption(call) for call in calls if call.lacks_answer]
        if calls[0].place in ("", "tool_calls"):
            return [entry.body for entry in self.answers if entry.answers[0].stays] + missing
        if self.is_straight and not missing:
            return [self.answers[0].shown()]
        rest = [self.answers[0].rest()] if self.is_straight else []
        return [self._merged(calls, missing), *filter(_is_left, rest)]

    def _merged(self, calls: list[_Piece], missing: list[Any]) -> Any:
        """Put all answers to *calls* into one message."""
        ours = {id(call.partner) for call in calls}
        found = [(piece, entry) for entry in self.answers for piece in entry.answers if id(piece) in ours]
        body = found[0][1].body if found else {"role": "user"}
        place = found[0][0].place if found else calls[0].place
        return {**body, place: [*(piece.source for piece, _ in found), *missing]}


def _units(entries: list[_Entry]) -> list[_Unit]:
    """Divide messages into steps with their answers, and other messages."""
    units: list[_Unit] = []
    unit_of: dict[int, _Unit] = {}
    for entry in entries:
        if entry.answers:
            for call in entry.calls:  # no model answers and calls in one message
                call.stays = False
            for unit in units[-1:]:
                unit.is_over = True
            _place_answers(entry, units, unit_of)
            continue
        if units and _goes_on(units[-1], entry):
            units[-1].entries.append(entry)
        else:
            units.append(_Unit([entry]))
        for call in entry.calls:
            unit_of[id(call)] = units[-1]
    return units


def _goes_on(unit: _Unit, entry: _Entry) -> bool:
    """Tell whether a message belongs to the step before: by its reasoning, as a parallel call, as the vendor's result."""
    if unit.is_over:
        return False
    own = {id(piece) for piece in unit.calls}
    if any(id(piece.partner) in own for piece in entry.pieces if not piece.is_call):
        return True
    before = unit.entries[-1]
    return _is_models(entry.body) and _is_models(before.body) and _is_of_step(unit, before, entry)


def _is_of_step(unit: _Unit, before: _Entry, entry: _Entry) -> bool:
    if _is_reasoning(entry.body):
        return _is_reasoning(before.body)
    first = unit.entries[0].body
    return _is_reasoning(first) or _is_empty(first) or bool(entry.calls and before.calls)


def _place_answers(entry: _Entry, units: list[_Unit], unit_of: dict[int, _Unit]) -> None:
    """Give the answers in a message to the steps that they answer. The rest of the message stays in its place."""
    found = {id(unit): unit for piece in entry.answers if (unit := unit_of.get(id(piece.partner)))}
    own = list(found.values())
    is_straight = len(own) == 1 and own[0] is units[-1] and not own[0].answers and _is_in_order(entry)
    for unit in own:
        if unit.is_straight:  # its rest stands behind all answers, since another one has come
            unit.rests += filter(_is_left, [unit.answers[0].rest()])
        unit.is_straight = is_straight
        unit.answers.append(entry)
    rest = entry.rest()
    if not is_straight and rest is not _GONE:
        units.append(_Unit([_Entry(rest, [])]))


def _is_in_order(entry: _Entry) -> bool:
    """Tell whether the answers stand first among the parts, or for Gemini alone."""
    places = [piece.at for piece in entry.answers]
    if entry.answers[0].form == "gemini":
        return len(places) == len(entry.body[entry.answers[0].place])
    return places == list(range(len(places)))


def _is_models(body: Any) -> bool:
    """Tell whether an item of OpenAI Responses is the model's."""
    kind = _type(body)
    if kind in ("reasoning", "mcp_approval_request") or kind.endswith("_call"):
        return True
    return (kind == "message" or _is_empty(body)) and _role(body) in ("assistant", None)


def _is_reasoning(body: Any) -> bool:
    return _type(body) == "reasoning"


def _type(body: Any) -> str:
    return _text(body, "type") if isinstance(body, dict) else ""


# ---- a call that was interrupted


def _interruption(call: _Piece) -> Any:
    """Make the answer to a call that was interrupted, as a part or as a message. None where its form knows none."""
    make = _INTERRUPTIONS.get(call.form)
    if make:
        return make(call)
    outputs = _OUTPUTS.get(call.form)
    return outputs and {"type": f"{call.form}_output", "call_id": call.id, **outputs}


def _chat_interruption(call: _Piece) -> Any:
    known = {"tool_call_id": call.id} if call.id else {"tool_name": call.name}
    return {"role": "tool", **known, "content": INTERRUPTED}


def _legacy_interruption(call: _Piece) -> Any:
    return {"role": "function", "name": call.name, "content": INTERRUPTED}


def _anthropic_interruption(call: _Piece) -> Any:
    return {"type": "tool_result", "tool_use_id": call.id, "content": INTERRUPTED, "is_error": True}


def _gemini_interruption(call: _Piece) -> Any:
    known = {"id": call.id} if call.id else {}
    key = "functionResponse" if "functionCall" in call.source else "function_response"
    return {key: {**known, "name": call.name, "response": {"error": INTERRUPTED}}}


def _refusal(call: _Piece) -> Any:
    kind = "mcp_approval_response"
    return {"type": kind, "approval_request_id": call.id, "approve": False, "reason": INTERRUPTED}


_INTERRUPTIONS: dict[str, Callable[[_Piece], Any]] = {
    "chat": _chat_interruption,
    "legacy": _legacy_interruption,
    "anthropic": _anthropic_interruption,
    "gemini": _gemini_interruption,
    "mcp_approval": _refusal,
}

_OUTPUTS: dict[str, dict[str, Any]] = {
    "function_call": {"output": INTERRUPTED},
    "custom_tool_call": {"output": INTERRUPTED},
    "apply_patch_call": {"status": "failed", "output": INTERRUPTED},
    "shell_call": {"output": [{"stdout": "", "stderr": INTERRUPTED, "outcome": {"type": "timeout"}}]},
}
"""Outputs of interrupted calls of OpenAI Responses. A call whose output cannot say it is left out."""
