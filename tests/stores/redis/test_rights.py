"""Rights that a server takes away while an app runs, and gives back. Nothing stays half, and ``written`` is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    Closing,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    FeedReply,
    FieldChange,
    Merge,
    MoveConversation,
    Put,
    ReplyPosition,
    TakeReply,
    Update,
)
from flask_convstore.domain.messages import Usage, join_element
from flask_convstore.domain.results import ReplyParts, Snapshot
from flask_convstore.domain.types import ANY
from flask_convstore.errors import ConvstoreError, SessionNotFound, StoreMisconfigured
from flask_convstore.stores.connect import connect
from flask_convstore.stores.redis.scripts import text_of
from flask_convstore.stores.redis.store import RedisStore

from ...conftest import check_lifetimes
from ...servers import Server

LIMITS = limits_of(Settings(max_history=10, history_policy="trim"))

RIGHTS = (
    *("rpush", "hset", "pexpireat", "pexpire", "multi", "exec", "watch", "hdel", "ltrim", "lset", "hincrby", "unlink"),
    *("hget", "hmget", "hgetall", "hkeys", "hlen", "hstrlen", "lindex", "llen", "lrange", "pttl", "exists", "time"),
    *("evalsha", "zadd", "zscore", "xadd", "xrange", "xrevrange", "publish"),
)


def said(text: str) -> bytes:
    return join_element(1, b'"%b"' % text.encode())


def start(session_id: str, *texts: str) -> Put:
    fields = (("f", b"1"), ("g", b"2"))
    return Put(
        session_id=session_id,
        owner=None,
        mode="replace",
        shape="full",
        fields=fields,
        elements=tuple(map(said, texts)),
        token=f"start {session_id}",
    )


def begun(session_id: str) -> BeginTurn:
    return BeginTurn(session_id=session_id, owner=None, element=said("q"), lease_ms=60_000, attempt="a", token="T")


def fed(session_id: str, first: int, *parts: bytes) -> FeedReply:
    return FeedReply(
        session_id=session_id,
        owner=None,
        turn="a",
        lease_ms=60_000,
        reply="msg-5",
        epoch=7,
        first=first,
        parts=parts,
    )


Make = Callable[[str], Any]
COMMANDS: dict[str, Make] = {
    "append": lambda key: Append(
        session_id=key,
        owner=None,
        elements=(said("x"),),
        fields=(("f", b"3"), ("g", None)),
        usage=Usage(1, 2),
        token="A",
    ),
    "trim": lambda key: Append(session_id=key, owner=None, elements=tuple(map(said, "abcdefghi")), token="B"),
    "begin": begun,
    "commit": lambda key: CommitTurn(session_id=key, owner=None, turn="a", elements=(said("r"),), status="", token="C"),
    "fail": lambda key: CommitTurn(session_id=key, owner=None, turn="a", elements=(), status="failed", token="C"),
    "feed": lambda key: fed(key, 3, b'{"text":"b"}'),
    "take": lambda key: TakeReply(session_id=key, owner=None, turn="b", lease_ms=60_000, reply="msg-5", is_over=False),
    "close": lambda key: CommitTurn(
        session_id=key,
        owner=None,
        turn="a",
        elements=(said("r"),),
        closing=Closing("msg-5", 7, 3, (b'{"done":"complete"}',), 60_000),
        token="C",
    ),
    "end without the stream": lambda key: CommitTurn(
        session_id=key, owner=None, turn="a", elements=(said("r"),), token="C"
    ),
    "move": lambda key: MoveConversation(session_id=key, owner=None, turn="a", moved_to="other", token="M"),
    "replace": lambda key: replace(start(key, "n", "m"), token="P"),
    "create": lambda key: replace(start(f"{key}-new", "n", "m"), token="N"),
    "merge": lambda key: Merge(
        session_id=key,
        owner=None,
        fields=(FieldChange("f", b"1", b"5"), FieldChange("g", b"2", None)),
        history=Extend(2, (said("y"),)),
        token="D",
    ),
    "upsert": lambda key: Merge(
        session_id=f"{key}-new", owner=None, shape="full", history=Extend(0, (said("y"),)), creates=True, token="U"
    ),
    "update": lambda key: Update(session_id=key, owner=None, fields=(("f", b"7"), ("g", None)), title="t", token="E"),
    "edit": lambda key: Edit(session_id=key, owner=None, seq=2, loaded=said("b"), element=said("bb"), token="F"),
    "delete": lambda key: Delete(session_id=key, owner=None, token="G", digest="d"),
    "delete nothing": lambda key: Delete(session_id=f"{key}-new", owner=None, token="H", digest="d"),
}
IN_STREAM = {"feed", "take", "close", "end without the stream"}
IN_TURN = {"commit", "fail", "move"} | IN_STREAM


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    told(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all")
    made = RedisStore(connect(Settings(url=f"redis://u:p@127.0.0.1:{server.port}/0"), Path()), "rights:", LIMITS)
    yield made
    made.close()
    told(server, "ACL", "DELUSER", "u")


def told(server: Server, *words: str) -> None:
    server.client.execute_command(*words)  # type: ignore[no-untyped-call]


def do(store: RedisStore, command: Any) -> None:
    if isinstance(command, BeginTurn):
        store.begin(command)
    elif isinstance(command, TakeReply):
        store.take_reply(command)
    elif isinstance(command, FeedReply):
        (answer,) = store.feed([command])
        if isinstance(answer, ConvstoreError):
            raise answer
    else:
        store.apply(command)


def prepared(store: RedisStore, key: str, name: str) -> None:
    store.apply(start(key, "a", "b", "c"))
    if name in IN_TURN:
        store.begin(begun(key))
    if name in IN_STREAM:
        do(store, fed(key, 1, b'{"head":{}}', b'{"text":"a"}'))


def seen(store: RedisStore, key: str) -> list[Any]:
    """Everything that can be read, but for times and names."""
    found = []
    for one in (store.load(key, ANY, is_interaction=False), store.load(f"{key}-new", ANY, is_interaction=False)):
        facts = one and {name: getattr(one, name) for name in Snapshot.__dataclass_fields__}
        if facts:
            for name in ("session_id", "key", "history_key", "created_at_ms", "updated_at_ms", "expires_at_ms"):
                facts.pop(name)
        turn = store.turn_lease(one.session_id, ANY).remaining_ms > 0 if one else None
        (stream,) = store.reply_parts([ReplyPosition(key, ANY, "msg-5", None, 9)]) if one else (None,)
        found.append((facts, turn, stream.parts if isinstance(stream, ReplyParts) else None))
    return found


def refused(store: RedisStore, server: Server, command: Any, right: str) -> ConvstoreError | None:
    told(server, "ACL", "SETUSER", "u", f"-{right}")
    try:
        do(store, command)
    except SessionNotFound:
        return None
    except ConvstoreError as error:
        return error
    finally:
        told(server, "ACL", "SETUSER", "u", f"+{right}")
    return None


def problem(store: RedisStore, server: Server, name: str, right: str) -> str | None:
    server.client.flushall()
    key, twin = "s", "twin"
    prepared(store, key, name)
    prepared(store, twin, name)
    before, command = seen(store, key), COMMANDS[name](key)
    error = refused(store, server, command, right)
    if error is None:
        return None
    try:
        check_lifetimes(server.client)
        after = seen(store, key)
    except (AssertionError, ConvstoreError) as wrong:
        return f"left: {wrong} {error.written}"
    if not isinstance(error, StoreMisconfigured):
        return f"error: {error!r}"
    if error.written is False and after != before:
        return "written"
    if error.written and after == before:
        return "not written"
    for one in (command, COMMANDS[name](twin)):
        try:
            do(store, one)
        except SessionNotFound:
            pass
        except ConvstoreError as wrong:
            return f"repeat: {wrong!r}"
    if seen(store, key) != seen(store, twin):
        return f"twice? {error.written}"
    return None


def test_the_rights_that_are_asked_for_are_those_that_sessions_need() -> None:
    folder = resources.files("flask_convstore.stores.redis") / "lua"
    others = {
        "watch_index",
        "changed",
        "correct",
        "count",
        "follow",
        "forget",
        "index",
        "link",
        "spend",
        "unindex",
        "rights",
    }  # of other keys
    files = [path for path in folder.iterdir() if path.name.removesuffix(".lua") not in others]
    needed = {name for path in files for name in re.findall(r'redis\.p?call\("(\w+)"', path.read_text())}
    asked = set(re.findall(r'\{"([A-Z]+)"', text_of("rights")))
    for_a_moment = {"SET", "DEL", "LPUSH"}  # of a gate, and of what tells a turn in waiting
    of_streams = {"XADD", "XRANGE", "XREVRANGE", "PUBLISH"}  # a reply is streamed without them too, in its own process
    assert asked == needed - for_a_moment - of_streams | {"MULTI", "EXEC", "WATCH"}


def test_writes_are_refused_before_they_begin_until_the_rights_are_back(store: RedisStore, server: Server) -> None:
    prepared(store, "s", "append")
    assert refused(store, server, COMMANDS["append"]("s"), "rpush")
    told(server, "ACL", "SETUSER", "u", "-multi", "-hset")
    for name in ("begin", "append", "create"):
        with pytest.raises(StoreMisconfigured, match=r"run HSET, MULTI\. Nothing was written") as caught:
            do(store, COMMANDS[name]("s"))
        assert caught.value.written is False
    told(server, "ACL", "SETUSER", "u", "+@all")
    do(store, COMMANDS["append"]("s"))


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_is_taken_away_leaves_nothing_half(store: RedisStore, server: Server, right: str) -> None:
    problems = {name: found for name in COMMANDS if (found := problem(store, server, name, right))}
    assert not problems
