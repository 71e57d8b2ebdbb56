"""Replies whose text is known beforehand: the message says how the reply comes, and each word of it has a number."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

Ending = Literal["whole", "raises", "hangs"]

_FIRST_WORD = "stream"
_HARD = ("", "\r\n", "\n\n", "👩‍👩‍👧‍👦", "\u2028", "data: no\n\n", "x" * 700)


class Script(NamedTuple):
    """A message that asks for a streamed reply.

    Attributes:
        label: The client's name for the session.
        number: The number of the turn among those of the session.
        chunks: Number of chunks.
        pause_ms: Time between two of them.
    """

    label: str
    number: int
    chunks: int
    pause_ms: int
    ending: Ending

    @property
    def content(self) -> str:
        """The content of the message."""
        return f"{_FIRST_WORD} {self.label} {self.number} {self.chunks} {self.pause_ms} {self.ending}"

    @property
    def seconds(self) -> float:
        """The time that the reply takes where nothing is wrong."""
        return self.chunks * self.pause_ms / 1000

    def pieces(self) -> list[str]:
        """The chunks: numbered words that no other reply has."""
        chance = random.Random(self.content)
        begin = f"{self.label}#{self.number}"
        words = [f"{begin}:{number}.{chance.getrandbits(24):x} " for number in range(self.chunks)]
        return [word + chance.choice(_HARD) if chance.random() < 0.2 else word for word in words]

    @property
    def text(self) -> str:
        """The whole text of the reply."""
        return "".join(self.pieces())


def script_of(content: object) -> Script | None:
    """The script in a message's content. None: the message asks for another reply."""
    if not isinstance(content, str) or not content.startswith(f"{_FIRST_WORD} "):
        return None
    _, label, number, chunks, pause_ms, ending = content.split(" ")
    return Script(label, int(number), int(chunks), int(pause_ms), ending)  # type: ignore[arg-type]
