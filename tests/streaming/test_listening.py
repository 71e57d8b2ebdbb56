"""Streams that are followed in one process while another one makes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flask_convstore import open_store
from flask_convstore.errors import ReplyFailed
from flask_convstore.operations.streamed import StreamedReply
from flask_convstore.streaming.feeding import Feeder
from flask_convstore.streaming.listening import Listening

from ..servers import Server


class Model:
    """A model that gives a chunk when it is told to."""

    def __init__(self) -> None:
        self._told = threading.Semaphore(0)

    def give(self, count: int = 1) -> None:
        self._told.release(count)

    def chunks(self, count: int) -> Iterator[str]:
        for number in range(count):
            assert self._told.acquire(timeout=20)
            yield f"{number} "


def begun(store: Any, chunks: Iterator[str]) -> Any:
    store.save_session("s", {})
    with store.turn("s", {"role": "user", "content": "hi"}) as turn:
        return turn.stream(chunks)


def parts(store: Any, count: int) -> str:
    """Make a reply of so many parts, and wait for its end."""
    model = Model()
    reply = begun(store, model.chunks(count))
    model.give(count)
    reply.wait()
    return str(reply.id)


def store_at(server: Server) -> Any:
    return open_store(server.url, prefix="chat:")


def test_a_reader_that_is_ahead_of_this_process_is_not_reset(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a part from another process, of which the bell has not told here yet."""
    one, other = store_at(valkey), store_at(valkey)
    model = Model()
    reply = begun(one, model.chunks(4))
    here = other.follow_reply("s", reply.id)
    model.give()
    followed = here.events()
    assert next(event for event in followed if event and event.kind == "delta")
    may_read = threading.Event()
    read = Listening._read_streams

    def read_late(self: Listening, channels: Any, now: float) -> None:
        may_read.wait(20)
        read(self, channels, now)

    monkeypatch.setattr(Listening, "_read_streams", read_late)
    model.give()
    seen = list(_until(reply, "1 "))
    late = other.follow_reply("s", reply.id, after=seen[-1].id)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(event for event in late.events() if event))
    thread.start()
    time.sleep(0.3)
    may_read.set()
    model.give(2)
    thread.join(20)
    assert "".join(event.value for event in found if event.kind == "delta") == "2 3 "
    assert "reset" not in [event.kind for event in found]
    followed.close()


def _until(reply: StreamedReply, text: str) -> Iterator[Any]:
    for event in reply.events():
        if event:
            yield event
            if event.kind == "delta" and event.value.endswith(text):
                return


def test_a_long_stream_is_resumed_where_it_was(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes several round trips to read it."""
    one, other = store_at(valkey), store_at(valkey)
    monkeypatch.setattr("flask_convstore.streaming.feeding._BATCH_CHARACTERS", 1)
    monkeypatch.setattr("flask_convstore.streaming.channel._AT_ONCE", 7)
    model = Model()
    reply = begun(one, model.chunks(40))

    def give() -> None:
        for _ in range(40):
            model.give()
            time.sleep(0.005)

    threading.Thread(target=give).start()
    seen = [event for event in reply.events() if event]
    assert len(seen) > 20
    for place in (3, 10, 18, len(seen) - 2):
        found = [event for event in other.follow_reply("s", reply.id, after=seen[place].id).events() if event]
        assert found == seen[place + 1 :]


def test_a_position_of_another_attempt_is_told_at_once(valkey: Server) -> None:
    one, other = store_at(valkey), store_at(valkey)
    reply = parts(one, 3)
    before = time.monotonic()
    for after in ("2-1", "999-5", "nonsense"):
        kinds = [event.kind for event in other.follow_reply("s", reply, after=after).events() if event]
        assert kinds[0] == "reset"
        assert kinds[-1] == "done"
    assert time.monotonic() - before < 1


def test_a_reply_is_there_for_all_once_it_has_begun(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app may hand its id to a client, which asks another worker at once."""
    one, other = store_at(valkey), store_at(valkey)
    feed = Feeder._feed

    def feed_late(self: Feeder, due: Any, commands: Any) -> None:
        time.sleep(0.3)
        feed(self, due, commands)

    monkeypatch.setattr(Feeder, "_feed", feed_late)
    model = Model()
    reply = begun(one, model.chunks(2))
    followed = other.follow_reply("s", reply.id)
    model.give(2)
    assert "".join(followed) == "0 1 "


def test_a_process_that_follows_only_its_own_streams_rests(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is made here nor what has ended keeps the thread busy, and the server is not asked for it."""
    store = store_at(valkey)
    loops = 0
    hear = Listening._hear

    def counted(self: Listening, bell: Any, followed: Any) -> None:
        nonlocal loops
        loops += 1
        hear(self, bell, followed)

    monkeypatch.setattr(Listening, "_hear", counted)
    model = Model()
    reply = begun(store, model.chunks(2))
    model.give()
    events = reply.events()
    next(event for event in events if event and event.kind == "delta")
    time.sleep(0.3)
    assert loops < 10
    assert not [one for one in valkey.client.client_list() if int(one["sub"])]
    model.give()
    assert [event.kind for event in events if event] == ["delta", "reply", "done"]


def test_a_bell_that_is_lost_again_and_again(valkey: Server) -> None:
    """Its connection is made anew, and what it has not told is found by a look."""
    one, other = store_at(valkey), store_at(valkey)
    reply = begun(one, _slowly(60))
    longest, before, found = 0.0, time.monotonic(), ""
    for number, event in enumerate(other.follow_reply("s", reply.id).events()):
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
        if event and event.kind == "delta":
            found += event.value
        if number % 5 == 0:
            valkey.client.client_kill_filter(_type="pubsub")
    assert found == "".join(f"{number} " for number in range(60))
    assert longest < 2


def _slowly(count: int) -> Iterator[str]:
    for number in range(count):
        yield f"{number} "
        time.sleep(0.03)


def test_another_attempt_begins_anew_while_the_first_is_read_to_its_end() -> None:
    store = open_store("memory://")
    store.save_session("s", {})
    with store.turn("s", {"role": "user", "content": "hi"}, token="t") as turn:
        first = turn.stream(_failing())
    events = first.events()
    assert next(events)
    with pytest.raises(ReplyFailed):
        first.wait()
    with store.turn("s", {"role": "user", "content": "hi"}, token="t") as turn:
        assert "".join(turn.stream(iter(["yes"]))) == "yes"
    assert [event.kind for event in events if event] == ["error", "done"]


def _failing() -> Iterator[str]:
    raise RuntimeError("no")
    yield ""
