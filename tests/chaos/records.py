"""Requests, answers and reads: the words between the clients and the checker.

Times are seconds of one monotonic clock. Every message names its operation: ``mark(…)`` is its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["start", "turn", "append", "drop", "get", "stranger", "delete"]
Outcome = Literal["ok", "failed", "unknown"]
"""Acknowledged, refused with nothing written, or unknown."""

NOT_FOUND = 404


class Mark(NamedTuple):
    """The place of a message: session by its label, operation of the client, and part of the operation."""

    label: str
    client: str
    number: int
    part: int
    parts: int
    is_reply: bool = False


def text_of(mark: Mark) -> str:
    """The message's content. The app's handler makes the reply from it."""
    return f"{'re: ' if mark.is_reply else ''}{mark.label} {mark.client} {mark.number} {mark.part}/{mark.parts}"


def id_of(text: str) -> str:
    """The id of the message with that content, where it is given one."""
    return text.replace(" ", "-").replace("/", ".")


def mark_of(text: object) -> Mark | None:
    """The mark in a message's content, or None if it is not ours."""
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
    """A session's messages, oldest first. *last* is the number of newest messages that were asked for."""

    messages: tuple[Seen, ...]
    last: int | None = None

    @property
    def is_from_the_first(self) -> bool:
        """True if no message can be missing at the beginning."""
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
    """One intention of a client, however many requests that took.

    Attributes:
        label: The client's own name for the session. The id is None until the server has given one.
        parts: The number of messages that are written, without replies.
        has_reply: A reply is to stand behind the message.
        first_seq, reply_seq: As acknowledged.
        has_ids: The messages were given ids.
        dropped: The messages that a drop takes out, as far as they are there.
        left: An error said that the message is stored for good.
        seen: The messages that a get has read.
        odd: The reason to take the answer for that to another request.
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
    has_ids: bool = False
    dropped: tuple[Mark, ...] = ()
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

    @property
    def is_degraded(self) -> bool:
        """True if its answer came from the fallback."""
        return bool(self.attempts) and self.attempts[-1].is_degraded


@dataclass(slots=True)
class Final:
    """A session as it was read when all was over. *read* is None if there was none.

    Attributes:
        door: The way by which it was read.
        problem: The reason why it could not be read.
    """

    label: str
    session_id: str
    door: str
    read: Read | None
    problem: str = ""
