"""Streams that no store keeps: where the server refuses to, and while it is away. They go on in their own process."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_convstore import Turn
from flask_convstore.operations.streamed import StreamedReply
from flask_convstore.streaming import feeding

from ..servers import Server
from ..service import Service

EVENTS = {"Accept": "text/event-stream"}
RIGHTS = "resetkeys ~chat:session:* resetchannels -@all +@hash +@list +@sortedset +@string +@keyspace +@scripting"
WITHOUT_STREAMS = f"on >p {RIGHTS} +@transaction +@connection -@dangerous +time +info"


def told(server: Server, *words: str) -> None:
    server.client.execute_command(*words)  # type: ignore[no-untyped-call]


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A user that has the rights of sessions, and none of streams."""
    monkeypatch.setattr(feeding, "_warned", set())
    told(server, "ACL", "SETUSER", "u", "reset", *WITHOUT_STREAMS.split())
    yield f"redis://u:p@{server.host}:{server.port}/0"
    told(server, "ACL", "DELUSER", "u")


def events_in(text: str) -> list[tuple[str, Any]]:
    """Names and JSON of the events in a body."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def in_pieces(*pieces: str) -> Callable[[Turn], Iterator[str]]:
    def reply(turn: Turn) -> Iterator[str]:
        for piece in pieces:
            yield piece
            time.sleep(0.1)

    return reply


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "docs/security.md" in record.getMessage()
    ]


def test_a_user_without_rights_of_streams_streams_locally(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """All but streaming works, and a stream neither hangs nor is lost: it can only not be resumed."""
    service = Service(url)
    service.convstore.reply(in_pieces("On ", "its ", "way."))
    session_id = service.start(message={"content": "first"})
    path = f"/sessions/{session_id}"
    for _ in range(2):
        response = service.client.post(f"{path}/messages", json={"content": "Where?"}, headers=EVENTS)
        assert response.status_code == 201
        assert "Convstore-Degraded" not in response.headers
        events = events_in(response.text)
        (message, *_, reply, done) = events
        assert [name for name, _ in events] == ["message", "delta", "delta", "delta", "reply", "done"]
        assert message[1]["resumable"] is False
        assert "degraded" not in message[1]
        assert (reply[1]["reply"]["content"], done[1]["status"]) == ("On its way.", "complete")
        assert service.get(session_id)["history"][-1] == reply[1]["reply"]
    assert service.client.get(f"{path}/replies/current").status_code == 204
    behind_its_end = service.client.get(f"{path}/replies/{reply[1]['turn']}").text
    assert [name for name, _ in events_in(behind_its_end)] == ["delta", "reply", "done"]
    (warning,) = warnings_in(caplog)
    assert "within their own process only" in warning


def test_a_user_who_may_not_listen_looks_each_second(
    server: Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    told(server, "ACL", "SETUSER", "u", "+@stream")
    service, elsewhere = Service(f"redis://{server.host}:{server.port}/0"), Service(url)
    service.convstore.reply(in_pieces("On ", "its ", "way."))
    path = f"/sessions/{service.start()}"
    body = service.client.post(f"{path}/messages", json={"content": "Where?"}, headers=EVENTS).iter_encoded()
    assert any(b"event: message" in line for line in body)
    events = events_in(elsewhere.client.get(f"{path}/replies/current").text)
    assert "".join(shown["content"] for name, shown in events if name == "delta") == "On its way."
    assert events[-1][1]["status"] == "complete"
    (warning,) = warnings_in(caplog)
    assert "seen here within a second only" in warning


def test_a_repeat_gets_the_reply_without_its_stream(url: str) -> None:
    service = Service(url)
    service.convstore.reply(in_pieces("On ", "its way."))
    path = f"/sessions/{service.start()}/messages"
    headers = {**EVENTS, "Idempotency-Key": "k"}
    first, again = (events_in(service.client.post(path, json={"content": "x"}, headers=headers).text) for _ in range(2))
    assert [name for name, _ in again] == ["message", "delta", "reply", "done"]
    assert again[-2][1]["reply"] == first[-2][1]["reply"]


def test_a_fast_reply_that_the_server_refuses_to_close_is_stored(url: str) -> None:
    """The first that is refused may be the end of the turn."""
    service = Service(url)
    service.convstore.reply(lambda turn: iter(["at once"]))
    path = f"/sessions/{service.start()}/messages"
    for _ in range(20):
        events = events_in(service.client.post(path, json={"content": "x"}, headers=EVENTS).text)
        assert [name for name, _ in events][-2:] == ["reply", "done"]
        assert events[-1][1]["status"] == "complete"


@pytest.mark.parametrize("right", ["xadd", "xrevrange"])
def test_rights_that_are_taken_away_while_a_reply_comes(
    server: Server, url: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower in this process gets all of it. Followers elsewhere get the stored reply."""
    monkeypatch.setattr(feeding, "LEASE_MS", 500)
    monkeypatch.setattr(feeding, "_BEAT_SECONDS", 0.2)
    told(server, "ACL", "SETUSER", "u", "+@all", "allchannels")
    service, elsewhere = Service(url), Service(f"redis://{server.host}:{server.port}/0")
    chunks: queue.Queue[str] = queue.Queue()
    service.convstore.reply(lambda turn: iter(chunks.get, ""))
    session_id = service.start()
    path = f"/sessions/{session_id}"
    chunks.put("one ")
    response = service.client.post(f"{path}/messages", json={"content": "x"}, headers=EVENTS)
    body = response.iter_encoded()
    assert any(b'"one "' in line for line in body)
    followed = elsewhere.client.get(f"{path}/replies/current").iter_encoded()
    assert any(b'"one "' in line for line in followed)
    told(server, "ACL", "SETUSER", "u", f"-{right}")
    chunks.put("two")
    assert any(b'"two"' in line for line in body), "it goes on here"
    time.sleep(1)  # longer than the lease of a stream
    chunks.put("")
    assert b'"content":"one two"' in b"".join(body)
    rest = events_in(b"".join(followed).decode())
    assert [name for name, _ in rest] == ["reset", "delta", "reply", "done"]
    assert rest[-2][1]["reply"]["content"] == "one two"
    assert service.get(session_id)["history"][-1]["content"] == "one two"
    assert server.client.keys("*:reply:*") == []


def test_a_local_stream_whose_model_is_silent_is_given_up(url: str) -> None:
    service = Service(url, STREAM_IDLE=1)
    never = threading.Event()

    def reply(turn: Turn) -> Iterator[str]:
        yield "some"
        never.wait(20)

    service.convstore.reply(reply)
    response = service.client.post(f"/sessions/{service.start()}/messages", json={"content": "x"}, headers=EVENTS)
    events = events_in(response.text)
    never.set()
    assert [name for name, _ in events] == ["message", "delta", "reply", "error", "done"]
    assert (events[2][1]["reply"]["content"], events[-1][1]["status"]) == ("some", "interrupted")


def test_the_turn_of_a_local_stream_is_kept(url: str) -> None:
    """No other turn begins meanwhile, however long the reply takes."""
    service = Service(url, TURN_LEASE=0.2)
    service.convstore.reply(lambda turn: "another")
    chunks: queue.Queue[str] = queue.Queue()
    with service.app.app_context():
        service.convstore.save_session("s", {"history": []})
        with service.convstore.turn("s", {"role": "user", "content": "x"}) as turn:
            reply: StreamedReply = turn.stream(iter(chunks.get, ""))
        chunks.put("a")
        for _ in range(5):
            time.sleep(0.15)
            assert service.client.post("/sessions/s/messages", json={"content": "y"}).status_code == 409
        chunks.put("")
        message = reply.wait()
        assert message
        assert message["content"] == "a"
        assert not reply.is_resumable


def test_a_stop_that_is_refused_changes_nothing(server: Server, url: str) -> None:
    """The turn stays its producer's."""
    told(server, "ACL", "SETUSER", "u", "+@all", "-xrange", "allchannels")
    service = Service(url)
    chunks: queue.Queue[str] = queue.Queue()
    service.convstore.reply(lambda turn: iter(chunks.get, ""))
    path = f"/sessions/{service.start()}"
    chunks.put("a")
    body = service.client.post(f"{path}/messages", json={"content": "x"}, headers=EVENTS).iter_encoded()
    assert any(b'"a"' in line for line in body)
    refused = service.client.delete(f"{path}/replies/msg-2")
    assert refused.json["type"] == "urn:convstore:misconfigured"  # type: ignore[index]
    chunks.put("b")
    chunks.put("")
    assert b'"status":"complete"' in b"".join(body)
