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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any, NamedTuple

INTERRUPTED = "interrupted: this call has no result"
"""Text of the result of a call that was never answered."""

_KEYS = frozenset(
    ("tool_calls", "tool_call_id", "function_call", "type", "parts"),
)
"""Keys of a message that may be half a pair."""
_CALLS = ("function_call", "functionCall")
_RESPONSES = ("function_response", "functionResponse")
_SIGNED = ("thought_signature", "thoughtSignature")
_GONE = {"content": ""}
"""A message of which nothing is left. It may have been a reasoning."""
_PROMPTS = ("system", "developer")
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


def whole(messages: Sequence[Any], orphans: str = "drop", *, is_cut: bool = False) -> list[Any]:
    """Select the messages that a model's API takes. Arguments as ``groups``."""
    if _are_plain(messages):
        return list(messages)
    return joined(groups(messages, orphans, is_cut=is_cut))


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


def groups(messages: Sequence[Any], orphans: str = "drop", *, is_cut: bool = False) -> list[Group]:
    """Divide messages into groups that belong together, without half pairs and without empty messages.

    The newest message stays, unless it is half a pair.

    Args:
        orphans: Treatment of a call without an answer: ``drop`` leaves the call out, ``answer`` gives it a result that says
            it was interrupted.
        is_cut: Older messages were left out. What may need them is left out too.
    """
    if _are_plain(messages):
        return [Group([message]) for message in messages]
    entries = [_Entry(message, _pieces(message)) for message in messages]
    if is_cut:
        heads = sum(1 for _ in itertools.takewhile(is_prompt, messages))
        entries.insert(heads, _Entry(_GONE, []))
    _match(entries)
    units = _units(entries)
    for unit in units:
        unit.leave_orphans(orphans)
    return [group for unit in units for group in unit.groups(is_newest=unit is units[-1])]


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
    return bool(entry.answers) and entry.without(entry.pieces) is _GONE


def _are_plain(messages: Sequence[Any]) -> bool:
    """Tell whether no message can be half a pair, nor empty. Nearly all histories are like this, so it is quick."""
    dicts = [message for message in messages if isinstance(message, dict)]
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
        partner: The other half.
        stays: It is shown.
    """

    place: str
    at: int
    form: str
    id: str
    name: str
    is_call: bool
    partner: _Piece | None = None
    stays: bool = True

    @property
    def is_item(self) -> bool:
        """It is a message of its own, not a part of one."""
        return not self.place

    @property
    def is_servers(self) -> bool:
        """Both halves are the model's."""
        return self.form == "server"


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

    def without(self, removed: list[_Piece]) -> Any:
        """Make the body without some pieces. ``_GONE`` if nothing is left that says something."""
        if not removed:
            return _GONE if self.is_gone else self.body
        if self.is_gone or any(not piece.place and not piece.is_call for piece in removed):
            return _GONE
        body = dict(self.body)
        for place in {piece.place for piece in removed}:
            gone = {piece.at for piece in removed if piece.place == place}
            if not place:
                body.pop("function_call", None)
                continue
            body[place] = [part for at, part in enumerate(body[place]) if at not in gone]
            if not body[place] and place == "tool_calls":
                del body[place]
        return body if _says_something(body) and "call_id" not in body else _GONE


def _says_something(body: dict[str, Any]) -> bool:
    if body.get("tool_calls") or any(body.get(key) for key in _SPEAKS):
        return True
    said = body.get("content") or body.get("parts") or ()
    return isinstance(said, str) or not all(map(_is_thought, said))


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and (
        part.get("type") in ("thinking", "redacted_thinking") or bool(part.get("thought"))
    )


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
        return [_Piece("", 0, "mcp_approval", _text(body, "id"), "", True)]
    if kind == "mcp_approval_response":
        return [_Piece("", 0, "mcp_approval", _text(body, "approval_request_id"), "", False)]
    if kind.endswith("_call_output") or (kind == "tool_search_output" and _text(body, "call_id")):
        form = kind.removesuffix("_output").removesuffix("_call") + "_call"
        return [_Piece("", 0, form, _text(body, "call_id") or _text(body, "id"), "", False)]
    if kind.endswith("_call") and _text(body, "call_id"):
        return [_Piece("", 0, kind, body["call_id"], "", True)]
    return []


def _of_message(body: dict[str, Any]) -> list[_Piece]:
    """Find what a message of OpenAI Chat has beside its content."""
    role, content = body.get("role"), body.get("content")
    if _text(body, "tool_call_id") or (role == "tool" and not isinstance(content, list) and "parts" not in body):
        name = _text(body, "tool_name") or _text(body, "name")
        return [_Piece("", 0, "chat", _text(body, "tool_call_id"), name, False)]
    if role == "function" and "parts" not in body:
        return [_Piece("", 0, "legacy", "", _text(body, "name"), False)]
    found = []
    calls = body.get("tool_calls")
    for at, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            named = call.get("function") if isinstance(call.get("function"), dict) else call
            found.append(_Piece("tool_calls", at, "chat", _text(call, "id"), _text(named, "name"), True))
    legacy = body.get("function_call")
    if isinstance(legacy, dict):
        found.append(_Piece("", 0, "legacy", "", _text(legacy, "name"), True))
    return found


def _of_parts(body: dict[str, Any], place: str) -> list[_Piece]:
    """Find the pieces among the parts of a message of Anthropic or Gemini."""
    parts = body.get(place)
    if not isinstance(parts, list):
        return []
    found = ((at, _of_part(part)) for at, part in enumerate(parts) if isinstance(part, dict))
    return [_Piece(place, at, *piece) for at, piece in found if piece]


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
        is_straight: The only answer stands directly behind the step, and may stay as it is.
    """

    entries: list[_Entry]
    answers: list[_Entry] = field(default_factory=list)
    is_straight: bool = False
    is_left_out: bool = False

    @property
    def calls(self) -> list[_Piece]:
        return [call for entry in self.entries for call in entry.calls]

    def leave_orphans(self, orphans: str) -> None:
        """Take out the calls that have no answer and get none, and what cannot be without them."""
        self._leave_unled()
        for entry in self.entries:
            for piece in entry.pieces:
                is_answered = piece.partner is not None or (
                    piece.is_call and orphans == "answer" and _can_end(piece, entry)
                )
                piece.stays = is_answered and not entry.is_gone
        if self._is_torn():
            for call in self.calls:
                call.stays = False
            self.is_left_out = _type(self.entries[0].body) == "reasoning"
        for call in self.calls:
            if call.partner:
                call.partner.stays = call.stays

    def _leave_unled(self) -> None:
        """Leave out items behind a message of which nothing is left. Their reasoning may have been that one."""
        is_behind = False
        for entry in self.entries:
            entry.is_gone = is_behind and bool(_text(entry.body, "id"))
            is_behind = is_behind or _is_empty(entry.body)

    def _is_torn(self) -> bool:
        """Tell whether all calls go with those that go: the signature is theirs (Gemini), or the reasoning (OpenAI)."""
        for entry in self.entries:
            for call in entry.calls:
                if (
                    call.form == "gemini"
                    and not call.stays
                    and not entry.body[call.place][call.at].keys().isdisjoint(_SIGNED)
                ):
                    return True
        if _type(self.entries[0].body) != "reasoning":
            return False
        led = next((entry for entry in self.entries if _type(entry.body) != "reasoning"), None)
        return led is None or _is_empty(led.body) or led.is_gone or not all(call.stays for call in led.calls)

    def groups(self, *, is_newest: bool = False) -> list[Group]:
        """Make the group of this unit, if anything is left of it. The newest message stays, also if it is empty."""
        if self.is_left_out:
            return []
        heads = []
        for entry in self.entries:
            body = entry.without([piece for piece in entry.pieces if not piece.stays])
            if body is not _GONE and (is_newest or not _is_empty(body)):
                heads.append(body)
        if not heads:
            return []
        stay = [call for call in self.calls if call.stays]
        is_gemini = any(call.form == "gemini" for call in stay)
        return [Group(heads + self._answers(stay), follows=is_gemini)]

    def _answers(self, calls: list[_Piece]) -> list[Any]:
        answered = [piece for piece in calls if piece.partner and not piece.is_servers]
        missing = [_interruption(piece, entry) for entry in self.entries for piece in entry.calls if _lacks(piece)]
        if not answered and not missing:
            return []
        is_items = all(call.form not in ("anthropic", "gemini") for call in calls)
        if is_items:
            return [entry.body for entry in self.answers if entry.answers[0].stays] + missing
        if self.is_straight and not missing:
            entry = self.answers[0]
            return [entry.without([piece for piece in entry.pieces if not piece.stays])]
        return [self._merged(missing)]

    def _merged(self, missing: list[Any]) -> Any:
        """Put all answers into one message."""
        ours = {id(call) for call in self.calls}
        parts, first = [], None
        for entry in self.answers:
            found = [piece for piece in entry.answers if piece.stays and id(piece.partner) in ours]
            parts += [entry.body[piece.place][piece.at] for piece in found]
            first = first or (found and (entry.body, found[0].place)) or None
        call = next(call for call in self.calls if call.stays and not call.is_servers)
        body, place = first or ({"role": "user"}, call.place)
        return {**body, place: [*parts, *missing]}


def _lacks(call: _Piece) -> bool:
    return call.stays and call.partner is None


def _units(entries: list[_Entry]) -> list[_Unit]:
    """Divide messages into steps with their answers, and other messages."""
    units: list[_Unit] = []
    unit_of: dict[int, _Unit] = {}
    for entry in entries:
        if entry.answers:
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
    if unit.answers:
        return False
    own = {id(piece) for piece in unit.calls}
    if any(not piece.is_call and id(piece.partner) in own for piece in entry.pieces):
        return True
    if not _is_models(entry.body) or not _is_models(unit.entries[-1].body):
        return False
    kind, before = _type(entry.body), _type(unit.entries[-1].body)
    if kind == "reasoning":
        return before == "reasoning"
    is_led = _type(unit.entries[0].body) == "reasoning" or _is_empty(unit.entries[0].body)
    return is_led or (bool(entry.calls) and bool(unit.entries[-1].calls))


def _place_answers(entry: _Entry, units: list[_Unit], unit_of: dict[int, _Unit]) -> None:
    """Give the answers in a message to the steps that they answer. The rest of the message stays in its place."""
    own = list({id(unit): unit for piece in entry.answers if (unit := unit_of.get(id(piece.partner)))}.values())
    for unit in own:
        unit.is_straight = not unit.answers and own == [unit] and unit is units[-1] and _is_in_order(entry)
        unit.answers.append(entry)
    for call in entry.calls:  # no model answers and calls in one message
        call.stays = False
    is_kept_whole = any(unit.is_straight for unit in own)
    if len(own) == 1 and len(own[0].answers) == 2:
        _unstraighten(own[0], units)
    if is_kept_whole or entry.answers[0].is_item:
        return
    _add_rest(entry, units, len(units))


def _unstraighten(unit: _Unit, units: list[_Unit]) -> None:
    """Let the rest of a first answering message stand behind all answers, since another one has come."""
    _add_rest(unit.answers[0], units, units.index(unit) + 1)


def _add_rest(entry: _Entry, units: list[_Unit], at: int) -> None:
    rest = entry.without(entry.pieces)
    if rest is not _GONE:
        units.insert(at, _Unit([_Entry(rest, [])]))


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


def _type(body: Any) -> str:
    return _text(body, "type") if isinstance(body, dict) else ""


# ---- a call that was interrupted


def _can_end(call: _Piece, entry: _Entry) -> bool:
    return bool(_interruption(call, entry))


def _interruption(call: _Piece, entry: _Entry) -> Any:
    """Make the answer to a call that was interrupted, as a part or as a message. None where its form knows none."""
    if call.form == "chat":
        known = {"tool_call_id": call.id} if call.id else {"tool_name": call.name}
        return {"role": "tool", **known, "content": INTERRUPTED}
    if call.form == "legacy":
        return {"role": "function", "name": call.name, "content": INTERRUPTED}
    if call.form == "anthropic":
        return {"type": "tool_result", "tool_use_id": call.id, "content": INTERRUPTED, "is_error": True}
    if call.form == "gemini":
        return _gemini_interruption(call, entry)
    if call.form == "mcp_approval":
        return {
            "type": "mcp_approval_response",
            "approval_request_id": call.id,
            "approve": False,
            "reason": INTERRUPTED,
        }
    outputs = _OUTPUTS.get(call.form)
    return outputs and {"type": f"{call.form}_output", "call_id": call.id, **outputs}


_OUTPUTS: dict[str, dict[str, Any]] = {
    "function_call": {"output": INTERRUPTED},
    "custom_tool_call": {"output": INTERRUPTED},
    "apply_patch_call": {"status": "failed", "output": INTERRUPTED},
    "shell_call": {"output": [{"stdout": "", "stderr": INTERRUPTED, "outcome": {"type": "timeout"}}]},
}
"""Outputs of interrupted calls of OpenAI Responses. A call whose output cannot say it is left out."""


def _gemini_interruption(call: _Piece, entry: _Entry) -> Any:
    part = entry.body[call.place][call.at]
    known = {"id": call.id} if call.id else {}
    key = "functionResponse" if "functionCall" in part else "function_response"
    return {key: {**known, "name": call.name, "response": {"error": INTERRUPTED}}}
