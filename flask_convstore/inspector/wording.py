"""Numbers and times in words, for people."""

from __future__ import annotations

from ..domain.clock import as_datetime
from ..operations.diagnosis import size

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
_CUT = 80


def bytes_in_words(count: int | float | None) -> str:
    """Write a number of bytes. None: it is not known."""
    return "not known" if count is None else size(count)


def duration(milliseconds: float) -> str:
    """Write a length of time by its largest unit, and by the next one where the number is small: ``1 h 5 min``."""
    left = max(0, round(milliseconds))
    for place, (unit, name) in enumerate(_UNITS):
        count, rest = divmod(left, unit)
        if not count:
            continue
        if count >= 10 or place + 1 == len(_UNITS):
            return f"{count} {name}"
        smaller, smaller_name = _UNITS[place + 1]
        more = rest // smaller
        return f"{count} {name} {more} {smaller_name}" if more else f"{count} {name}"
    return "0 s"


def ago(at_ms: int, now: int) -> str:
    """Write how long ago a time was."""
    return "just now" if now - at_ms < 1000 else f"{duration(now - at_ms)} ago"


def until(at_ms: int, now: int) -> str:
    """Write how far away a time is."""
    return f"in {duration(at_ms - now)}" if at_ms > now else "now"


def exact(at_ms: int) -> str:
    """Write a time to the second, in UTC."""
    return _written(at_ms, "%Y-%m-%d %H:%M:%S UTC")


def machine_time(at_ms: int) -> str:
    """Write a time as the ``datetime`` of an HTML ``time`` wants it."""
    return _written(at_ms, "%Y-%m-%dT%H:%M:%SZ")


def clock(at_ms: int) -> str:
    """Write the hour and the minute of a time, in UTC."""
    return _written(at_ms, "%H:%M")


def _written(at_ms: int, form: str) -> str:
    try:
        return as_datetime(at_ms).strftime(form)
    except (OSError, OverflowError, ValueError):  # others have written it
        return "at no time that there is"


def number(count: float) -> str:
    """Write a number with separators between its thousands."""
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:,.1f}"


def counted(count: int, word: str) -> str:
    """Write a number of things. The plural of *word* has an s."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def shortened(text: str, most: int = _CUT) -> str:
    """Cut a text that is too long for its place."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(text: str) -> str:
    """Write out the characters of a name that nobody sees, so that no name looks like another one."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def hidden(text: str) -> str:
    """Write the length of a text in the place of the text."""
    return f"{counted(len(text), 'character')} hidden"
