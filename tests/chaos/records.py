"""What was asked for, what was answered, what was read: the words between the clients and the checker.

Times are seconds of one monotonic clock. Every message says whose it is: ``mark(…)`` is its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["start", "turn", "append", "get", "stranger", "delete"]
Outcome = Literal["ok", "failed", "unknown"]
"""It is acknowledged; it was refused, and nothing was written; nobody can know."""

NOT_FOUND = 404


class Mark(NamedTuple):
    """Where a message belongs: the session by its label, the client's operation, and which part of it this is."""

    label: str
    client: str
    number: int
    part: int
    parts: int
    is_reply: bool = False


def text_of(mark: Mark) -> str:
    """The message's content; a reply is what the app's handler makes of it."""
    return f"{'re: ' if mark.is_reply else ''}{mark.label} {mark.client} {mark.number} {mark.part}/{mark.parts}"


def mark_of(text: object) -> Mark | None:
    """The mark in a message's content; None if it is none of ours."""
    if not isinstance(text, str):
        return None
    is_reply = text.startswith("re: ")
    try:
        label, client, number, place = text.removeprefix("re: ").split(" ")
        part, _, parts = place.partition("/")
        return Mark(label, client, int(number), int(part), int(parts), is_reply)
    except ValueError:
        return None


class Seen(NamedTuple):
    """One message of a session that was read."""

    seq: int
    text: str


class Read(NamedTuple):
    """A session's messages, oldest first; *last*: only so many of the newest were asked for."""

    messages: tuple[Seen, ...]
    last: int | None = None

    @property
    def is_from_the_first(self) -> bool:
        """Whether no message can be missing at the beginning."""
        return self.last is None or len(self.messages) < self.last


@dataclass(slots=True)
class Attempt:
    """One request.

    Attributes:
        status: None: no answer came. 0: it never left.
        written: What an error says about it.
        seconds_inside: How long the app took, by its own clock.
        is_degraded: The answer says that it comes from the fallback.
        detail: What an error says else.
    """

    began: float
    ended: float
    status: int | None
    written: bool | None = None
    slug: str = ""
    seconds_inside: float | None = None
    is_degraded: bool = False
    detail: str = ""


@dataclass(slots=True)
class Operation:
    """What a client wanted once, however many requests that took.

    Attributes:
        label: The client's own name for the session; the id is None where the server gives it and has not yet.
        parts: How many messages are written, replies not counted.
        has_reply: A reply is to stand behind the message.
        first_seq, reply_seq: As acknowledged.
        left: An error said that the message is stored for good.
        seen: What a get has read.
        odd: Why the answer is that to another request.
    """

    client: str
    number: int
    kind: Kind
    label: str
    session_id: str | None
    owner: str | None
    parts: int = 0
    has_reply: bool = False
    began: float = 0.0
    ended: float = 0.0
    outcome: Outcome = "unknown"
    first_seq: int | None = None
    reply_seq: int | None = None
    left: bool = False
    seen: Read | None = None
    odd: str = ""
    attempts: list[Attempt] = field(default_factory=list)

    def marks(self) -> list[Mark]:
        """The messages that it writes, in their order."""
        marks = [Mark(self.label, self.client, self.number, part + 1, self.parts) for part in range(self.parts)]
        return [*marks, marks[-1]._replace(is_reply=True)] if self.has_reply else marks

    @property
    def is_acknowledged(self) -> bool:
        return self.outcome == "ok"


@dataclass(slots=True)
class Final:
    """A session as it was read when all was over; *read* is None where there was none.

    Attributes:
        door: Through which it was read.
        problem: Why it could not be read at all.
    """

    label: str
    session_id: str
    door: str
    read: Read | None
    problem: str = ""
