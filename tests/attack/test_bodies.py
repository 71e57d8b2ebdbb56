"""Hostile bodies take little, and are answered briefly."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import orjson
import pytest

from .bodies import MOST_BYTES, bodies, decode, make_client, post

SIZE = 150_000
_FIXED_CALLS = 6_000
_CALLS_A_BYTE = 0.1


def peak(call: Callable[[], object]) -> int:
    """The most memory that *call* has at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def decode_and_encode(body: bytes) -> None:
    """orjson keeps up to a hundred times an output's size for it, of which nearly nothing becomes resident."""
    try:
        value = orjson.loads(body)
        text, again = orjson.dumps(value), orjson.dumps(value)
        del text, again
    except (ValueError, TypeError):
        decode(body)


def calls(call: Callable[[], object]) -> int:
    """The number of calls that Python makes in *call*, of functions in C too."""
    count = 0

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("name", "body"), list(bodies(SIZE)), ids=[name for name, _ in bodies(10_000)])
def test_a_hostile_body_takes_little(name: str, body: bytes) -> None:
    """Neither memory nor calls grow with the parts of a body beyond what decoding and encoding it takes."""
    client = make_client()
    status, size = post(client, body)
    assert status in (201, 400, 413, 422), name
    assert status == 201 or size < 10_000, "an error is brief, whatever is wrong"
    allowed = peak(lambda: decode_and_encode(body)) + MOST_BYTES * len(body)
    assert peak(lambda: post(client, body)) <= allowed
    assert calls(lambda: post(client, body)) < _FIXED_CALLS + _CALLS_A_BYTE * len(body)
