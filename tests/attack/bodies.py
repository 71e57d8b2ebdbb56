"""Hostile bodies, and what a request with one takes beyond plain decoding of the body.

A request is measured in a process of its own that ends with it: its time of the processor, and the memory that became
resident. So nothing that was freed before hides what is taken.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
from flask import Flask
from flask.testing import FlaskClient

from flask_convstore import ConversationStore

MOST_NANOSECONDS = 60
MOST_BYTES = 12
"""Most that a request may take beyond plain decoding, for each byte of its body."""

SIZE = 1_000_000
_REPEATS = 3


class Cost(NamedTuple):
    """Nanoseconds and bytes for each byte of a body."""

    time: float
    memory: float


def _filled(size: int, head: bytes, unit: bytes, tail: bytes, between: bytes = b",") -> bytes:
    """Repeat *unit* between head and tail, as often as the size allows."""
    count = max(1, (size - len(head) - len(tail)) // (len(unit) + len(between)))
    return head + between.join([unit] * count) + tail


def _named(count: int) -> bytes:
    return b",".join(b'"%d":1' % number for number in range(count))


_DATA, _END = b'{"data":{"a":[', b"]}}"

_REPEATED = {
    "ones": (_DATA, b"1", _END),
    "nulls": (_DATA, b"null", _END),
    "fractions and a null": (_DATA + b"null,", b"1.5", _END),
    "lists": (_DATA, b"[]", _END),
    "lists and a null": (_DATA + b"null,", b"[]", _END),
    "lists of one and a null": (_DATA + b"null,", b"[0]", _END),
    "objects and a null": (_DATA + b"null,", b"{}", _END),
    "objects of one and a null": (_DATA + b"null,", b'{"":0}', _END),
    "lists, objects and a null": (_DATA + b"null,", b"[],{}", _END),
    "lists in lists": (_DATA, b"[" * 90 + b"]" * 90, _END),
    "lists and a large integer": (_DATA, b"[]", b"," + b"9" * 30 + _END),
    "ones and a large integer": (_DATA, b"1", b"," + b"9" * 30 + _END),
    "integers of 64 bits": (_DATA, b"18446744073709551615", _END),
    "large integers": (_DATA, b"18446744073709551616", _END),
    "texts of digits": (_DATA, b'"1234567890123456789"', _END),
    "ones and a lone surrogate": (_DATA, b"1", b',"\\ud800"' + _END),
    "objects and a lone surrogate in a name": (_DATA, b'{"":0}', b',{"\\ud800":0}' + _END),
    "lone surrogates": (_DATA, b'"\\ud800"', _END),
    "names twice": (_DATA, b'{"a":1,"a":1}', _END),
    "parts of a message": (b'{"message":{"content":[', b'{"type":""}', b"]}}"),
    "lists in metadata": (b'{"message":{"content":"a","metadata":{"a":[', b"[]", b"]}}}"),
    "lists and a null in metadata": (b'{"message":{"content":"a","metadata":{"a":[null,', b"[]", b"]}}}"),
    "broken at the end": (_DATA, b"[]", b",]}}"),
}


def bodies(size: int = SIZE) -> Iterator[tuple[str, bytes]]:
    """Make each hostile body for ``POST /sessions``, with its name."""
    for name, (head, unit, tail) in _REPEATED.items():
        yield name, _filled(size, head, unit, tail)
    yield "escaped letters", _filled(size, b'{"data":{"a":"', b"\\u00e9", b'"}}', b"")
    yield "escaped colons", _filled(size, b'{"data":{"a":"', b"\\u003a", b'"}}', b"")
    yield "an emoji and a long text", _filled(size, '{"data":{"😀":"'.encode(), b"x", b'"}}', b"")
    yield "a long name and a null", b'{"data":{"%b":[null%b]}}' % (b"k" * (size // 2), b",1" * (size // 4))
    yield "a long name that is unknown", b'{"%b":1}' % (b"k" * size)
    yield (
        "long names that are unknown",
        b"{%b}" % b",".join(b'"%d%b":1' % (n, b"k" * 5000) for n in range(size // 5000)),
    )
    yield "many fields", b'{"data":{%b}}' % _named(size // 10)
    yield "many names in a field", b'{"data":{"a":{%b}}}' % _named(size // 10)
    yield "many unknown names", b"{%b}" % _named(size // 10)
    yield "many unknown names in a message", b'{"message":{"content":"a",%b}}' % _named(size // 10)
    yield "deep", b'{"data":{"a":%b%b}}' % (b"[" * (size // 2), b"]" * (size // 2))


def make_client() -> FlaskClient:
    """Make a client of an app in memory, which has served a request."""
    app = Flask("attacked")
    app.config.update(CONVSTORE_URL="memory://")
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    client = app.test_client()
    client.post("/sessions", json={"data": {"a": [None, 2**64]}})
    return client


def post(client: FlaskClient, body: bytes) -> tuple[int, int]:
    """Start a session with *body*. Return the status, and the size of the answer."""
    response = client.post("/sessions", data=body, content_type="application/json")
    return response.status_code, len(response.data)


def decode(body: bytes) -> None:
    """Decode *body*, as far as that goes."""
    with contextlib.suppress(ValueError):
        orjson.loads(body)


def measured(call: Callable[[], object], size: int) -> Cost:
    """Measure *call* in processes of their own: the least of some times, the memory of one."""
    costs = [_in_child(call) for _ in range(_REPEATS)]
    return Cost(min(cost.time for cost in costs) / size, costs[0].memory / size)


def _in_child(call: Callable[[], object]) -> Cost:
    """Measure *call* in a child: nanoseconds, and bytes that became resident."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader, "rb") as told:
            found = told.read()
        os.waitpid(child, 0)
        return Cost(*json.loads(found))
    try:
        gc.disable()  # plain decoding would be measured with collections of its own
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, started = _peak(), time.process_time_ns()
        call()
        cost = time.process_time_ns() - started, _peak() - before
        os.write(writer, json.dumps(cost).encode())
    finally:
        os._exit(0)


def _peak() -> int:
    """Read the most memory that was resident, in bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def run() -> list[str]:
    """Send every hostile body. A failure is an answer that is large or no answer, or one that took too much."""
    client, failures = make_client(), []
    print(f"{'body':42} {'status':>6} {'answer':>9} {'ns/byte':>8} {'bytes/byte':>10}  above plain decoding")
    for name, body in bodies():
        status, size = post(client, body)
        plain = measured(lambda body=body: decode(body), len(body))  # type: ignore[misc]
        whole = measured(lambda body=body: post(client, body), len(body))  # type: ignore[misc]
        above = Cost(whole.time - plain.time, whole.memory - plain.memory)
        print(f"{name:42} {status:6} {size:9,} {above.time:8.1f} {above.memory:10.1f}", flush=True)
        if status >= 500 or (status >= 400 and size > 10_000):
            failures.append(f"{name}: {status} with {size:,} bytes")
        # A message is shown as it was stored, and so is decoded twice.
        again = plain.time if b'"message"' in body and status == 201 else 0.0
        if above.time - again > MOST_NANOSECONDS or above.memory > MOST_BYTES:
            failures.append(f"{name}: {above.time:.0f} ns and {above.memory:.1f} bytes for each byte of the body")
    return failures
