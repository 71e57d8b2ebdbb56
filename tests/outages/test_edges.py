"""Calls that span the edge of an outage, with a real server: turns, replies that are streamed, owners, aliases."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore import open_store
from flask_convstore.domain.commands import BeginTurn, CommitTurn, FieldChange
from flask_convstore.errors import ConflictError
from flask_convstore.stores.redis.store import RedisStore

from ..processes import wait_for
from ..servers import Server, programs, running
from ..service import Service
from .test_fallback import LIMITS, Host, said, start, texts_in
from .test_outage import contents, handed_over, service_of

pytestmark = [pytest.mark.server]


@pytest.fixture
def redis_server() -> Iterator[Server]:
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def stored(service: Service, session_id: str) -> tuple[list[str], dict[str, Any]]:
    session = service.convstore.get_session(session_id)
    assert session
    return [message["content"] for message in session["history"]], dict(session)


def test_turns_with_tools_and_data(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue")
    session_id = service.start(data={"n": 1}, message={"content": "hi"})

    def tool(name: str) -> dict[str, str]:
        return {"role": "assistant", "content": name}

    with service.app.app_context():
        with service.convstore.turn(session_id, "q0") as turn:  # it begins in Redis and ends in the journal
            turn.data["k"] = 1
            turn.add(tool("t0"))
            redis_server.kill()
            turn.reply("r0")
        with service.convstore.turn(session_id, "q1") as turn:
            turn.add(tool("t1"))
            turn.data["m"] = 2
            turn.reply("r1")
            assert turn.partial
        with service.convstore.turn(session_id, "q2") as turn:  # it begins in the journal and ends in Redis
            turn.add(tool("t2"))
            redis_server.start()
            handed_over(service)
            turn.data["z"] = 3
            turn.reply("r2")
        found, data = stored(service, session_id)
    assert found == ["hi", "re: hi", "q0", "t0", "r0", "q1", "t1", "r1", "q2", "t2", "r2"]
    assert (data["n"], data["k"], data["m"], data["z"]) == (1, 1, 2, 3)


def test_streamed_replies(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue")
    session_id = service.start(message={"content": "hi"})
    gate = threading.Event()

    def chunks(number: int) -> Iterator[str]:
        yield f"a{number}"
        gate.wait(20)
        yield f"b{number}"

    with service.app.app_context():
        reply = service.convstore.turn(session_id, "q0").__enter__().stream(chunks(0))
        redis_server.kill()
        gate.set()
        assert "".join(reply) == "a0b0"
        gate.clear()
        reply = service.convstore.turn(session_id, "q1").__enter__().stream(chunks(1))
        redis_server.start()
        handed_over(service)
        gate.set()
        assert "".join(reply) == "a1b1"
        wait_for(lambda: stored(service, session_id)[0][-1] == "a1b1", "the reply is not stored")
        handed_over(service)
        assert stored(service, session_id)[0] == ["hi", "re: hi", "q0", "a0b0", "q1", "a1b1"]


def test_anonymous_owners_stay_apart(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue", ANONYMOUS_OWNER=True)
    service.app.secret_key = "x" * 32
    ann, eve = service.app.test_client(), service.app.test_client()
    session_id = Service.json(ann.post("/sessions", json={"message": {"content": "hi"}}), 201)["session_id"]
    redis_server.kill()
    Service.json(ann.post(f"/sessions/{session_id}/messages", json={"content": "more"}), 201)
    shown = Service.json(eve.get(f"/sessions/{session_id}"), 200)
    assert (shown["history"], shown["partial"]) == ([], True)  # as of any id
    Service.json(eve.post(f"/sessions/{session_id}/messages", json={"content": "evil"}), 201)
    redis_server.start()
    handed_over(service)
    assert contents(ann.get(f"/sessions/{session_id}").json) == ["hi", "re: hi", "more", "re: more"]
    assert eve.get(f"/sessions/{session_id}").status_code == 404


def test_a_conversation_that_is_cleared_stays_so(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue")
    convstore = service.convstore
    with service.app.app_context():
        convstore.append(convstore.resolve("telegram:1", create=True).session_id, "before")
        redis_server.kill()
        convstore.append(convstore.resolve("telegram:1", create=True).session_id, "meanwhile")
        assert convstore.clear("telegram:1")
        convstore.append(convstore.resolve("telegram:1", create=True).session_id, "after")
        redis_server.start()
        handed_over(service)
        time.sleep(0.5)
        found = convstore.resolve("telegram:1")
        assert found
        assert [message["content"] for message in found["history"]] == ["after"]


def test_a_script_without_a_journal_is_not_told_of_the_mode_of_the_app(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONVSTORE_OUTAGE", "continue")
    open_store("memory://").close()
    open_store("redis://127.0.0.1:1/0").close()
    assert not caplog.records
    open_store("redis://127.0.0.1:1/0", fallback="none", outage="continue").close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("kind", sorted(programs()))
def test_a_server_takes_the_reply_of_a_turn_that_others_have_taken(kind: str, tmp_path: Path) -> None:
    with running(kind) as server:
        store = RedisStore(server.client, "e:", LIMITS)
        store.apply(start("s", "a"))
        turn: dict[str, Any] = {"session_id": "s", "owner": None}
        store.begin(BeginTurn(**turn, element=said("q"), lease_ms=9_000, attempt="x"))
        host = Host(store, tmp_path / "journal", continues=True)
        fields = (FieldChange("n", None, b"1"), FieldChange("m", None, b"1"))
        elements = (said("tool"), said("r"))
        host.workers[0].apply(CommitTurn(**turn, turn="x", elements=elements, fields=fields, token="end"))
        store.begin(BeginTurn(**turn, element=said("q2"), lease_ms=9_000, attempt="y", supersede=True))
        theirs = (FieldChange("n", None, b"2"),)
        store.apply(CommitTurn(**turn, turn="y", elements=(said("r2"),), fields=theirs))
        host.come_back()
        found = store.load("s", None)
        assert found
        assert texts_in(store, "s") == ["a", "q", "q2", "r2", "tool", "r"]
        assert found.fields == {"n": b"2", "m": b"1"}
        assert [type(error) for error in host.told] == [ConflictError]
        host.close()
