"""Parts of a streamed reply: as handlers give them, as streams keep them, and the message that they become.

A stream keeps these parts, each as JSON text:

- ``{"head": {…}}``: the first one, see ``Head``
- ``{"text": "…"}``: a piece of the text
- ``{"part": {"kind": "…", "content": …}}``: any other part that the handler gave
- ``{"added": ["…"]}``: elements that ``turn.add()`` took
- ``{"reply": "…"}``: the element of the reply, as it is stored
- ``{"error": {…}}``: the reason why the reply is not whole
- ``{"done": "…"}``: the last one, with the fate of the reply
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..errors import InvalidInput
from . import json_text

Kind = Literal["text", "reasoning", "tool_call", "tool_result", "source", "data", "error"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Fate = Literal["complete", "stopped", "interrupted", "failed", "unanswered"]
"""The fate of a streamed reply. ``stopped`` and ``interrupted`` ones hold what had come until then."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a reply that a handler streams.

    Attributes:
        kind: ``text`` and ``reasoning`` have a text as content, and are joined. ``tool_call``, ``tool_result``, ``source``
            and ``data`` have any JSON value. An ``error`` has a text for the client, and ends the reply.
    """

    kind: Kind
    content: Any

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInput(f"a part is one of {', '.join(KINDS)}, not {self.kind!r}", "kind")
        if self.kind in ("text", "reasoning", "error") and not isinstance(self.content, str):
            kind = type(self.content).__name__
            raise InvalidInput(f"the content of a part of kind {self.kind} is a text, not a {kind}", "content")


@dataclass(frozen=True, slots=True)
class Head:
    """The first part of a stream. It holds what anybody needs to end the turn.

    Attributes:
        message: The id of the user's message ("": the turn has none). Its text may be edited and redacted meanwhile.
        token: The token of the turn.
        version: The version of the session with that message.
        added: The elements that stand before the reply.
    """

    message: str
    token: str
    version: int
    added: tuple[str, ...]


def encoded(kind: str, content: Any) -> bytes:
    """Encode a part as a stream keeps it."""
    return json_text.encode({kind: content})


def decoded(text: bytes) -> tuple[str, Any]:
    """Decode a part that a stream keeps: its kind, and its content."""
    ((kind, content),) = json_text.decode(text).items()
    return kind, content


def head_of(content: Any) -> Head:
    """Make the head of a stream from its content."""
    return Head(**content)


def content_of(head: Head) -> dict[str, Any]:
    """Make the content of a stream's first part."""
    return asdict(head)


def epoch_of(attempt: str) -> int:
    """Make the number that tells the stream of one attempt from that of another."""
    return int.from_bytes(hashlib.blake2b(attempt.encode(), digest_size=4).digest()) or 1


class TextJoiner:
    """Joins pieces of text. A piece may end within a character of two surrogates, as some models' do."""

    def __init__(self) -> None:
        self._half = ""

    def joined(self, piece: str) -> str:
        """Return as much of the text with *piece* as is whole."""
        text, self._half = self._half + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _repaired(text)

    def rest(self) -> str:
        """Return what was left. A half character becomes U+FFFD."""
        text, self._half = self._half, ""
        return _repaired(text)


def _repaired(text: str) -> str:
    """Join surrogates that belong together, and put U+FFFD in the place of those that do not."""
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(slots=True)
class Draft:
    """A reply that grows by its parts."""

    pieces: list[str] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    added: list[bytes] = field(default_factory=list)
    length: int = 0

    def take(self, text: bytes) -> None:
        """Take a part as a stream keeps it."""
        kind, content = decoded(text)
        if kind == "text":
            self.pieces.append(content)
            self.length += len(content)
        elif kind == "part":
            self._take_other(content["kind"], content["content"])
        elif kind == "added":
            self.added += [element.encode() for element in content]

    def _take_other(self, kind: str, content: Any) -> None:
        newest = self.others[-1] if self.others else None
        if kind == "reasoning" and newest and (newest["kind"], newest["at"]) == (kind, self.length):
            newest["content"] += content
        else:
            self.others.append({"kind": kind, "at": self.length, "content": content})

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to store yet."""
        return not (self.pieces or self.others)

    @property
    def body(self) -> dict[str, Any]:
        """The message: its content is the joined text. ``parts`` has the others, each with its place in the text."""
        parts = {"parts": self.others} if self.others else {}
        return {"role": "assistant", "content": "".join(self.pieces), **parts}


_KEYS = {"kind", "at", "content"}
"""Keys of a part that is no text, in a message."""


def as_models_take(body: Any) -> Any:
    """Leave the parts out that a streamed reply has beside its text. The API of a model refuses what it does not know."""
    parts = body.get("parts") if isinstance(body, dict) else None
    if not parts or not isinstance(parts, list):
        return body
    if not all(isinstance(part, dict) and part.keys() == _KEYS for part in parts):
        return body  # of another form, such as Gemini's
    return {name: value for name, value in body.items() if name != "parts"}


def draft_of(texts: Iterable[bytes]) -> Draft:
    """Join parts of a stream."""
    draft = Draft()
    for text in texts:
        draft.take(text)
    return draft


def is_end(text: bytes) -> bool:
    """Tell whether a part is the last one of its stream."""
    return text.startswith(b'{"done"')


def closing_parts(elements: Sequence[bytes], fate: Fate, error: dict[str, Any] | None) -> list[bytes]:
    """Make the parts that end a stream: the reply if there is one, the error if there is one, and the end."""
    parts = [encoded("reply", elements[-1].decode())] if elements else []
    if error is not None:
        parts.append(encoded("error", error))
    return [*parts, encoded("done", fate)]
