"""MessagePack, as far as Flask-Session writes it: JSON's types, bytes and times (https://msgpack.org, spec of 2017)."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

_DEEPEST = 200
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS: dict[int, Any] = {0xC0: None, 0xC2: False, 0xC3: True}
_SHORT = ((0x80, 0x8F, "map"), (0x90, 0x9F, "list"), (0xA0, 0xBF, "text"))
"""First and last tag of what tells its size in the tag."""
_LONG = {
    **{0xC4 + power: ("bytes", f">{form}") for power, form in enumerate("BHI")},
    **{0xC7 + power: ("extension", f">{form}") for power, form in enumerate("BHI")},
    **{0xD9 + power: ("text", f">{form}") for power, form in enumerate("BHI")},
    **{0xDC + power: ("list", f">{form}") for power, form in enumerate("HI")},
    **{0xDE + power: ("map", f">{form}") for power, form in enumerate("HI")},
}
"""Tags behind which the size stands, and its form."""
_EXTENSIONS = {0xD4 + power: 1 << power for power in range(5)}
_TIMESTAMP = -1


def decode(packed: bytes) -> Any:
    """Decode one value.

    Raises:
        ValueError: *packed* is no MessagePack, or has more behind the value.
    """
    reader = _Unpacker(packed)
    try:
        value = reader.value(0)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"no MessagePack ({error})") from error
    if reader.at != len(packed):
        raise ValueError("no MessagePack (there is more behind it)")
    return value


class _Unpacker:
    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("no MessagePack (it is nested too deep)")
        tag = self._number(">B")
        if tag < 0x80 or tag >= 0xE0:  # a small number, which is the tag
            return tag if tag < 0x80 else tag - 0x100
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(_NUMBERS[tag])
        return self._sized(*self._head(tag), depth)

    def _head(self, tag: int) -> tuple[str, int]:
        """Read the kind and the size of what has one."""
        for first, last, kind in _SHORT:
            if first <= tag <= last:
                return kind, tag - first
        if tag in _EXTENSIONS:
            return "extension", _EXTENSIONS[tag]
        if tag not in _LONG:
            raise ValueError("no MessagePack (an unknown tag)")
        kind, form = _LONG[tag]
        return kind, self._number(form)

    def _sized(self, kind: str, count: int, depth: int) -> Any:
        if kind == "map":
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(count)}
        if kind == "list":
            return [self.value(depth + 1) for _ in range(count)]
        if kind == "extension":
            return self._extension(count)
        return self._bytes(count).decode() if kind == "text" else self._bytes(count)

    def _number(self, form: str) -> Any:
        (number,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
        return number

    def _bytes(self, count: int) -> bytes:
        found = self._packed[self.at : self.at + count]
        if len(found) < count:
            raise ValueError("no MessagePack (it ends too early)")
        self.at += count
        return found

    def _extension(self, count: int) -> datetime:
        kind, packed = self._number(">b"), self._bytes(count)
        if kind != _TIMESTAMP:
            raise ValueError("no MessagePack that can be read (an extension)")
        return _time(packed)


def _time(packed: bytes) -> datetime:
    if len(packed) == 4:
        nanoseconds, seconds = 0, struct.unpack(">I", packed)[0]
    elif len(packed) == 8:
        whole = struct.unpack(">Q", packed)[0]
        nanoseconds, seconds = whole >> 34, whole & 0x3FFFFFFFF
    else:
        nanoseconds, seconds = struct.unpack(">Iq", packed)
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
