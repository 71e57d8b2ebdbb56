"""An app while its Redis is away and when it comes back: over HTTP, in one process and under gunicorn."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import Session, StoreMisconfigured, StoreUnavailable, Turn
from flask_convstore.domain.ids import id_made_away, made_away_at_ms
from flask_convstore.domain.messages import Message
from flask_convstore.operations import abandoned
from flask_convstore.outages.journal import Journal
from flask_convstore.outages.replay import Replayer

from ..app.test_gunicorn import ROOT, Client
from ..processes import children, wait_for
from ..servers import Server, free_port, programs, running
from ..service import OwnedService, Service, problem
from ..telemetry.test_signals import heard


@pytest.fixture
def redis_server() -> Iterator[Server]:
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def echo(turn: Turn) -> str:
    return f"re: {turn.message['content']}"


def service_of(server: Server, **config: Any) -> Service:
    service = Service(server.url, **{"RETRIES": 0, **config})
    service.convstore.reply(echo)
    return service


def journals(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("instance/convstore/*/journal.sqlite"))


def handed_over(service: Service) -> None:
    def is_done() -> bool:
        health = service.client.get("/sessions/health").json
        return bool(health and health["connected"] and not health["pending"])

    wait_for(is_done, "nothing is handed over")


def contents(shown: Any) -> list[str]:
    return [message["content"] for message in shown["history"]]


def test_a_streamed_reply_of_a_model_that_hangs_ends_also_in_an_outage(redis_server: Server) -> None:
    """The ids that its events tell are those that stay."""
    service = service_of(redis_server, STREAM_IDLE=1)
    may_end = threading.Event()

    service.convstore.reply(lambda turn: hanging_behind("so far", may_end))
    redis_server.kill()
    session_id = service.start()
    events = {"Accept": "text/event-stream"}
    told = service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}, headers=events).text
    may_end.set()
    assert "CONVSTORE_STREAM_IDLE" in told
    assert told.rstrip().endswith('"status":"interrupted"}')
    redis_server.start()
    handed_over(service)
    shown = service.get(session_id)["history"]
    assert contents({"history": shown}) == ["hi", "so far"]
    for message in shown:
        assert f'"id":"{message["id"]}"' in told


def test_a_reply_whose_turn_began_in_an_outage_keeps_its_id_when_it_is_stopped(redis_server: Server) -> None:
    """Its message was accepted in the outage, and repeated when the store was back."""
    service = service_of(redis_server, TURN_LEASE=1, TURN_POLICY="wait")
    may_end = threading.Event()
    redis_server.kill()
    session_id = service.start()
    with service.app.app_context():
        service.convstore.turn(session_id, "hi", token="T", owner=None)  # its process dies
        redis_server.start()
        handed_over(service)
        with service.convstore.turn(session_id, "hi", token="T", owner=None) as turn:
            reply = turn.stream(hanging_behind("so far", may_end))
        assert next(iter(reply)) == "so far"
        path = f"/sessions/{session_id}/replies/{reply.id}"
        stopped = Service.json(service.client.delete(path), 200)
        may_end.set()
    assert service.get(session_id)["history"][-1] == stopped["reply"]
    assert (stopped["reply"]["id"], stopped["reply"]["content"]) == (reply.id, "so far")


def test_a_stop_that_cannot_be_stored_is_kept_in_no_journal(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's stream has all that it would store. Behind a fail-over others have ended the reply otherwise."""
    service = service_of(redis_server, BUDGET=1)
    may_end = threading.Event()
    session_id = service.start()
    with service.app.app_context():
        with service.convstore.turn(session_id, "hi", owner=None) as turn:
            reply = turn.stream(hanging_behind("so far", may_end))
        assert next(iter(reply)) == "so far"
        make = abandoned._command

        def killed_meanwhile(*arguments: Any) -> Any:
            redis_server.kill()
            return make(*arguments)

        monkeypatch.setattr(abandoned, "_command", killed_meanwhile)
        refused = problem(service.client.delete(f"/sessions/{session_id}/replies/{reply.id}"), 503, "unavailable")
        assert refused["written"] is False
        waiting = service.client.get("/sessions/health").json
        assert waiting
        assert not waiting["pending"]
        may_end.set()


def hanging_behind(text: str, may_end: threading.Event) -> Iterator[str]:
    yield text
    may_end.wait(30)


def test_a_session_that_is_not_handed_over_yet_is_not_denied_to_those_who_follow_it(
    redis_server: Server, tmp_path: Path
) -> None:
    """Neither on this host, nor on another one."""
    service = service_of(redis_server)
    may_end = threading.Event()
    redis_server.kill()
    session_id = service.start()
    path = f"/sessions/{session_id}"
    with service.app.app_context(), service.convstore.turn(session_id, "hi", owner=None) as turn:
        reply = turn.stream(_slowly(may_end))
    (file,) = journals(tmp_path)
    with Journal(file.parent, "", 2**20, 1.0).replaying() as is_held_up:
        assert is_held_up
        redis_server.start()
        wait_for(
            lambda: Service.json(service.client.get("/sessions/health"), 200)["connected"], "the server is not seen"
        )
        other = Service(redis_server.url, FALLBACK="none")
        for client in (service.client, other.client):
            for method, at in (("GET", f"replies/{reply.id}"), ("DELETE", f"replies/{reply.id}"), ("GET", "events")):
                problem(client.open(f"{path}/{at}", method=method), 503, "unavailable")
            problem(client.get(f"{path}/replies/current"), 503, "unavailable")
        may_end.set()
        reply.wait()
        assert '"content":"at last"' in service.client.get(f"{path}/replies/{reply.id}").text
        assert service.client.get(f"{path}/replies/current").status_code == 204
        assert Service.json(service.client.delete(f"{path}/replies/{reply.id}"), 200)["status"] == "complete"
    handed_over(service)
    assert '"content":"at last"' in service.client.get(f"{path}/replies/{reply.id}").text


def _slowly(may_end: threading.Event) -> Iterator[str]:
    assert may_end.wait(30)
    yield "at last"


def test_a_reply_is_streamed_while_redis_is_away(redis_server: Server) -> None:
    """It comes as it is made, is marked as one that cannot be resumed, and is stored once the server is back."""
    service = service_of(redis_server)
    service.convstore.reply(lambda turn: iter(["so ", "far"]))
    redis_server.kill()
    accept = {"Accept": "text/event-stream"}
    begun = service.client.post("/sessions", json={"message": {"content": "hi"}}, headers=accept)
    assert (begun.status_code, begun.headers["Convstore-Degraded"]) == (201, "journal")
    path = begun.headers["Location"]
    events = begun.text
    assert "event: delta" in events
    assert 'far"' in events
    assert '"resumable":false' in events
    assert events.count("event: done") == 1
    session = service.client.get(path).json
    user, reply = session["history"]  # type: ignore[index]
    assert f'"turn":"{reply["id"]}"' in events
    assert f'"message":{{"id":"{user["id"]}"' in events
    assert service.client.get(f"{path}/replies/current").status_code == 204
    again = service.client.get(f"{path}/replies/{reply['id']}", headers={"Last-Event-ID": "1-1"}).text
    assert again.count("event: reset") == again.count("event: done") == 1
    redis_server.start()
    handed_over(service)
    assert contents(service.client.get(path).json) == ["hi", "so far"]
    assert service.client.get(f"{path}/replies/{reply['id']}").text.count("event: done") == 1


def test_ids_of_messages_stay_where_another_host_writes_meanwhile(redis_server: Server, tmp_path: Path) -> None:
    """Whichever way they were told, and the reply has the id that was told before it was made."""
    service = service_of(redis_server)
    store = service.convstore
    with service.app.app_context():
        redis_server.kill()
        session = store.save_session("s", {"history": ["a"]})
        session["history"].append("b")
        store.save_session("s", session)
        store.append("s", Message({"role": "user", "content": "c"}, id="q-1"), "d")
        session = store.get_session("s")  # type: ignore[assignment]
        told = {message.id: message.body for message in session.messages}
        assert list(told)[2] == "q-1"
        with store.turn("s", "ask", token="T") as turn:
            told[turn.message.id], told[turn.reply_id] = turn.message.body, {"role": "assistant", "content": "hi"}
            said = turn.reply("hi")
            assert said
            assert said.id == turn.reply_id
        answer = Service.json(service.client.post("/sessions/s/messages", json={"content": "http"}), 201)
        for shown in (answer["message"], answer["reply"]):
            told[shown["id"]] = {"role": shown["role"], "content": shown["content"]}
        late = store.turn("s", "late", token="L").__enter__()
        told[late.message.id], told[late.reply_id] = late.message.body, {"role": "assistant", "content": "at last"}
        (file,) = journals(tmp_path)
        with Journal(file.parent, "", 2**20, 1.0).replaying() as is_held_up:
            assert is_held_up
            redis_server.start()
            other = Service(redis_server.url, FALLBACK="none")
            with other.app.app_context():
                other.convstore.save_session("s", {"history": ["theirs"]})
        handed_over(service)
        replied = late.reply("at last")
        late.__exit__(None, None, None)
        assert replied
        assert replied.id == late.reply_id
        found = store.get_session("s")
        assert found is not None
        assert found["history"] == ["theirs", *told.values()]
        assert {message.id: message.body for message in found.messages[1:]} == told
        assert found.messages[0].id == "msg-1"
        for number, (name, body) in enumerate(told.items()):
            edited = f"edited {number}"
            assert store.edit_message("s", name, edited).id == name, body
        assert store.pop_message("s").id == late.reply_id  # type: ignore[union-attr]


def test_what_is_started_while_redis_is_away_is_there_afterwards(redis_server: Server, tmp_path: Path) -> None:
    service = service_of(redis_server)
    before = service.start()
    redis_server.kill()

    with heard(service) as told_of:
        started = service.client.post("/sessions", json={"data": {"plan": "a"}, "message": {"content": "hi"}})
    shown = Service.json(started, 201)
    assert (started.headers["Convstore-Degraded"], started.headers["Convstore-Level"]) == ("journal", "journal")
    assert shown["degraded"] is True
    session_id = shown["session_id"]
    assert made_away_at_ms(session_id)
    assert {facts["session_id"] for name, facts in told_of if name == "session-started"} == {session_id}
    said = service.client.post(f"/sessions/{session_id}/messages", json={"content": "more"})
    assert (said.status_code, said.headers["Convstore-Degraded"]) == (201, "journal")
    read = service.client.get(f"/sessions/{session_id}")
    assert read.json
    assert (read.headers["Convstore-Degraded"], read.json["degraded"]) == ("journal", True)
    assert contents(read.json) == ["hi", "re: hi", "more", "re: more"]
    problem(service.client.get(f"/sessions/{before}"), 503, "unavailable")
    problem(service.client.post(f"/sessions/{before}/messages", json={"content": "x"}), 503, "unavailable")
    health = service.client.get("/sessions/health")
    assert health.status_code == 200
    assert health.json == {"connected": False, "latency_ms": None, "degraded": True, "pending": 5}
    with service.app.app_context():
        told = service.convstore.health()
    assert told.pending_age_s is not None
    assert told.problem

    (file,) = journals(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    redis_server.start()
    handed_over(service)
    read_again = service.client.get(f"/sessions/{session_id}", headers={"If-None-Match": read.headers["ETag"]})
    assert read_again.status_code == 304  # the state that was shown meanwhile is the state now
    assert "Convstore-Degraded" not in read_again.headers
    assert contents(service.get(session_id)) == ["hi", "re: hi", "more", "re: more"]
    assert "degraded" not in service.get(session_id)
    assert service.get(before)
    with service.app.app_context():
        assert service.convstore.health().degraded is False
        assert {found.session_id for found in service.convstore.list_sessions().sessions} == {session_id, before}


def test_a_conversation_goes_on_while_redis_is_away(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue")
    session_id = service.start(data={"step": 1}, message={"content": "hi"})
    redis_server.kill()

    read = service.client.get(f"/sessions/{session_id}")
    assert (read.status_code, read.headers["Convstore-Degraded"], read.headers["Convstore-Partial"]) == (
        200,
        "journal",
        "true",
    )
    shown = Service.json(read, 200)
    assert (shown["history"], shown["partial"], shown["degraded"]) == ([], True, True)
    page = Service.json(service.client.get(f"/sessions/{session_id}/messages"), 200)
    assert (page["messages"], page["next"], page["partial"]) == ([], None, True)
    said = service.client.post(f"/sessions/{session_id}/messages", json={"content": "more"})
    exchange = Service.json(said, 201)
    assert (exchange["partial"], said.headers["Convstore-Partial"], said.headers["Convstore-Level"]) == (
        True,
        "true",
        "journal",
    )
    streamed = service.client.post(
        f"/sessions/{session_id}/messages", json={"content": "last"}, headers={"Accept": "text/event-stream"}
    )
    assert (streamed.status_code, streamed.headers["Convstore-Partial"]) == (201, "true")
    assert '"partial":true' in streamed.text
    again = service.client.get(f"/sessions/{session_id}")
    assert contents(Service.json(again, 200)) == ["more", "re: more", "last", "re: last"]
    health = service.client.get("/sessions/health")
    assert (health.status_code, health.json and health.json["degraded"]) == (200, True)

    redis_server.start()
    handed_over(service)
    whole = service.client.get(f"/sessions/{session_id}")
    assert "Convstore-Partial" not in whole.headers
    assert "partial" not in Service.json(whole, 200)
    assert contents(Service.json(whole, 200)) == ["hi", "re: hi", "more", "re: more", "last", "re: last"]
    with service.app.app_context():
        message = service.convstore.get_message(session_id, exchange["message"]["id"])
    assert message
    assert message["content"] == "more"


def test_the_habits_of_dicts_go_on_while_redis_is_away(redis_server: Server) -> None:
    service = service_of(redis_server, OUTAGE="continue")
    app, sessions = service.app, service.convstore.sessions

    @app.post("/chat/<sid>/<text>")
    def chat(sid: str, text: str) -> dict[str, Any]:
        if sid not in sessions:
            sessions[sid] = {"history": [], "count": 0}
        sessions[sid]["history"].append({"role": "user", "content": text})
        sessions[sid]["count"] = sessions[sid].get("count", 0) + 1
        return {}

    @app.post("/default/<sid>/<text>")
    def default(sid: str, text: str) -> dict[str, Any]:
        session = sessions.setdefault(sid, {"history": []})
        session["history"].append({"role": "user", "content": text})
        return {}

    @app.post("/plain/<sid>/<text>")
    def plain(sid: str, text: str) -> dict[str, Any]:
        session = dict(service.convstore.get_session(sid) or {"history": []})
        session["history"] = [*session["history"], {"role": "user", "content": text}]
        service.convstore.save_session(sid, session)
        return {}

    kinds = ("chat", "default", "plain")
    for kind in kinds:
        for text in "ab":
            assert service.client.post(f"/{kind}/{kind}/{text}").status_code == 200
    redis_server.kill()
    for kind in kinds:
        for text in "cde":
            assert service.client.post(f"/{kind}/{kind}/{text}").status_code == 200
        assert service.client.post(f"/{kind}/new-{kind}/x").status_code == 200
    redis_server.start()
    handed_over(service)
    for kind in kinds:
        assert service.client.post(f"/{kind}/{kind}/f").status_code == 200
        with app.app_context():
            assert [message["content"] for message in sessions[kind]["history"]] == list("abcdef")
            assert [message["content"] for message in sessions[f"new-{kind}"]["history"]] == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize("fallback", ["journal", "memory"])
def test_a_server_that_stands_still_longer_than_the_budget_loses_nothing(redis_server: Server, fallback: str) -> None:
    """The save lands when the server goes on. Its caller has given up, and another write is acknowledged behind it."""
    service = service_of(redis_server, BUDGET=1.0, FALLBACK=fallback)
    service.start()
    for number in range(3):
        session_id = f"s{number}"
        levels: dict[str, str | None] = {}

        def write(name: str, call: Callable[[], Any], levels: dict[str, str | None] = levels) -> None:
            with service.app.app_context():
                levels[name] = call().fallback

        convstore = service.convstore
        os.kill(redis_server.process.pid, signal.SIGSTOP)
        save = threading.Thread(
            target=write, args=("save", partial(convstore.save_session, session_id, {"history": ["a"]}))
        )
        late = threading.Thread(target=write, args=("append", partial(convstore.append, session_id, {"content": "b"})))
        save.start()
        time.sleep(0.7)
        late.start()
        time.sleep(0.5)
        os.kill(redis_server.process.pid, signal.SIGCONT)
        save.join()
        late.join()
        assert levels == {"save": fallback, "append": None}
        handed_over(service)
        with service.app.app_context():
            found = convstore.get_session(session_id)
            assert found
            assert found["history"] == ["a", {"content": "b"}]


def test_an_app_starts_while_redis_is_away_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(f"redis://someone:secret@127.0.0.1:{free_port()}/0", RETRIES=0)
    with caplog.at_level(logging.WARNING, "flask_convstore"):
        for _ in range(3):
            service.start()
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "does not answer" in warning.getMessage()
    assert "someone:***@127.0.0.1" in warning.convstore_target  # type: ignore[attr-defined]
    assert warning.convstore_fallback == "journal"  # type: ignore[attr-defined]
    assert "secret" not in caplog.text


@pytest.mark.server
def test_a_wrong_password_is_loud_and_no_reason_to_start_anything_elsewhere(tmp_path: Path) -> None:
    with running("valkey", "--requirepass", "right") as server:
        service = Service(f"redis://:wrong@127.0.0.1:{server.port}/0")
        problem(service.client.post("/sessions", json={}), 503, "misconfigured")
        with service.app.app_context(), pytest.raises(StoreMisconfigured):
            service.convstore.save_session("s", {})
        health = service.client.get("/sessions/health")
        assert (health.status_code, health.json and health.json["degraded"]) == (503, False)
    assert not journals(tmp_path)


def test_none_answers_503(redis_server: Server, tmp_path: Path) -> None:
    service = service_of(redis_server, FALLBACK="none")
    redis_server.kill()
    problem(service.client.post("/sessions", json={}), 503, "unavailable")
    assert service.client.get("/sessions/health").status_code == 503
    assert not journals(tmp_path)


def test_memory_is_handed_over_too(redis_server: Server, tmp_path: Path) -> None:
    service = service_of(redis_server, FALLBACK="memory")
    redis_server.kill()
    started = service.client.post("/sessions", json={"message": {"content": "hi"}})
    assert started.json
    assert started.headers["Convstore-Degraded"] == "memory"
    redis_server.start()
    handed_over(service)
    assert contents(service.get(started.json["session_id"])) == ["hi", "re: hi"]
    assert not journals(tmp_path)


def test_a_start_that_is_repeated_across_the_outage_is_one(redis_server: Server) -> None:
    service = service_of(redis_server)
    redis_server.kill()
    start: dict[str, Any] = {"json": {"message": {"content": "hi"}}, "headers": {"Idempotency-Key": str(uuid.uuid4())}}
    first = service.client.post("/sessions", **start)
    again = service.client.post("/sessions", **start)
    redis_server.start()
    handed_over(service)
    after = service.client.post("/sessions", **start)
    assert first.json
    for other in (again, after):
        assert other.json
        assert (other.json["session_id"], other.json["version"]) == (first.json["session_id"], first.json["version"])
    with service.app.app_context():
        (only,) = service.convstore.list_sessions().sessions
    assert only.message_count == 2


def test_a_start_whose_answer_was_lost_leaves_nothing_behind(redis_server: Server) -> None:
    """It is in a server that was stopped and goes on later. The client has long had another session."""
    service = service_of(redis_server, COMMAND_TIMEOUT=0.2, BUDGET=0.5)
    service.start()
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    started = service.client.post("/sessions", json={"data": {"n": 1}})
    assert started.json
    os.kill(redis_server.process.pid, signal.SIGCONT)
    handed_over(service)
    with service.app.app_context():
        found = {shown.session_id for shown in service.convstore.list_sessions().sessions}
        assert len(found) == 2
        assert started.json["session_id"] in found


def test_the_words_of_the_library_say_who_served(redis_server: Server) -> None:
    service = service_of(redis_server)
    redis_server.kill()
    with service.app.app_context():
        convstore = service.convstore
        session = convstore.save_session("mine", {"history": []})
        assert session.fallback == "journal"
        assert isinstance(session, dict)
        session["n"] = 1
        assert convstore.save_session("mine", session).fallback == "journal"
        assert convstore.append("mine", Message("hello")).fallback == "journal"
        with convstore.turn("mine", "a question") as turn:
            turn.reply("an answer")
        found = convstore.get_session("mine")
        assert isinstance(found, Session)
        said = ["hello", {"role": "user", "content": "a question"}, {"role": "assistant", "content": "an answer"}]
        assert (found.fallback, found["history"]) == ("journal", said)
        assert convstore.exists("mine")
        with pytest.raises(StoreUnavailable):
            convstore.get_session("other")
        redis_server.start()
        handed_over(service)
        found = convstore.get_session("mine")
        assert isinstance(found, Session)
        assert (found.fallback, found["history"], found["n"]) == (None, said, 1)


def test_a_mapping_is_handed_over_by_an_app_that_has_not_used_it_since(redis_server: Server) -> None:
    first = service_of(redis_server)
    carts = first.convstore.mapping("carts")
    redis_server.kill()
    with first.app.test_request_context():
        first.app.preprocess_request()
        carts["c"] = {"items": [1]}
        first.convstore.sessions["s"] = {"history": []}
        first.app.process_response(first.app.response_class())
    again = service_of(redis_server)  # a worker that starts anew
    mapping = again.convstore.mapping("carts")
    redis_server.start()
    handed_over(again)
    with again.app.app_context():
        assert mapping["c"] == {"items": [1]}


def test_a_full_journal_is_a_503_and_holds_what_it_has_acknowledged(redis_server: Server) -> None:
    service = service_of(redis_server, JOURNAL_MAX_BYTES=2**17)
    redis_server.kill()
    session_id = service.start()
    count = 0
    while True:
        said = service.client.post(f"/sessions/{session_id}/messages", json={"content": f"{count} {'x' * 3000}"})
        if said.status_code != 201:
            break
        count += 1
    assert problem(said, 503, "unavailable")["written"] in (False, True)  # the message is, where the reply is not
    read = service.get(session_id)
    answered = [message for message in read["history"] if message["role"] == "assistant"]
    assert len(answered) == count > 3
    assert problem(service.client.post("/sessions", json={"data": {"x": "y" * 9000}}), 503, "unavailable")
    redis_server.start()
    handed_over(service)
    assert contents(service.get(session_id)) == contents(read)


def test_a_journal_that_cannot_be_written_is_told_loudly(
    redis_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(redis_server)
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/convstore").write_text("a file where the folder should be")
    redis_server.kill()
    for _ in range(2):
        problem(service.client.post("/sessions", json={}), 503, "unavailable")
    assert service.client.get("/sessions/health").status_code == 503
    errors = [record for record in caplog.records if "the journal's folder cannot be used" in record.getMessage()]
    assert [record.levelname for record in errors] == ["ERROR"]
    with service.app.app_context():
        assert "folder cannot be used" in str(service.convstore.health().problem)
    redis_server.start()
    wait_for(lambda: service.client.get("/sessions/health").status_code == 200, "it does not come back")
    assert service.start()


def test_asking_for_health_writes_nothing(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each GET wrote 25 KB during an outage, and everybody may ask."""
    service = service_of(redis_server)
    redis_server.kill()
    folder = _journal_of(service)._folder
    assert folder
    assert service.start()

    def files() -> dict[str, tuple[int, int]]:
        return {
            file.name: (file.stat().st_mtime_ns, file.stat().st_size)
            for file in folder.iterdir()
            if file.name[-4:] != "-shm"
        }

    before = files()
    assert "journal.sqlite" in before
    for _ in range(5):
        health = service.client.get("/sessions/health")
        assert (health.status_code, health.json and health.json["degraded"]) == (200, True)
    assert files() == before
    real = os.statvfs

    def full(path: Any) -> Any:
        found = real(path)
        return os.statvfs_result((*found[:4], 1, *found[5:]))

    monkeypatch.setattr(os, "statvfs", full)
    assert service.client.get("/sessions/health").status_code == 503, "nothing more could be written"
    redis_server.start()


def spoil(file: Path) -> None:
    file.write_bytes(b"no database at all" * 1000)


def make_foreign(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE mine (a)")


def make_anothers(file: Path) -> None:
    other = Journal(file.parent, "another target", 2**20, 1)
    assert other.is_usable()
    other.close()


@pytest.mark.parametrize("change", [spoil, make_foreign, make_anothers])
def test_a_journal_that_is_none_of_ours_is_set_aside_and_reported(
    redis_server: Server, tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(redis_server)
    redis_server.kill()
    folder = _journal_of(service)._folder
    assert folder
    folder.mkdir(parents=True)
    file = folder / "journal.sqlite"
    change(file)
    before = file.read_bytes()
    started = service.start()
    assert service.get(started)
    (aside,) = file.parent.glob("set-aside-*.sqlite")
    assert aside.read_bytes() == before
    assert "was set aside" in caplog.text
    with service.app.app_context():
        assert "was set aside" in str(service.convstore.health().problem)


def make_open_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def lock(folder: Path) -> None:
    """Lock it as SQLite does while it makes a file whole after a crash, for ever."""
    held = sqlite3.connect(folder / "journal.sqlite", timeout=0, isolation_level=None)
    held.execute("PRAGMA locking_mode = EXCLUSIVE")
    held.execute("BEGIN EXCLUSIVE")
    HELD.append(held)


HELD: list[sqlite3.Connection] = []


@pytest.mark.parametrize("change", [make_open_to_all, lock])
def test_where_the_journal_cannot_be_read_nobody_says_that_nothing_waits(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(Replayer, "wake", lambda replayer: None)  # nobody else uses it
    first = service_of(redis_server)
    redis_server.kill()
    first.start()
    journal = _journal_of(first)
    journal.close()
    assert journal._folder
    change(journal._folder)
    service = service_of(redis_server)
    health = service.client.get("/sessions/health").json
    with service.app.app_context():
        told = service.convstore.health()
    for held in HELD:
        held.close()
    assert health == {"connected": False, "latency_ms": None, "degraded": True, "pending": None}
    assert (told.pending, told.degraded, told.can_start) == (None, True, False)
    assert "journal" in str(told.problem)


def _journal_of(service: Service) -> Journal:
    journal: Journal = service.app.extensions["convstore"]["convstore"].journal
    return journal


def test_a_journal_that_is_spoiled_while_it_is_used_is_set_aside(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replayer, "wake", lambda replayer: None)  # nobody else uses it
    service = service_of(redis_server)
    redis_server.kill()
    session_id = service.start()
    _journal_of(service).close()
    (file,) = journals(tmp_path)
    with open(file, "r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xff" * (file.stat().st_size - 4096))
    problem(service.client.get(f"/sessions/{session_id}"), 503, "unavailable")
    assert list(file.parent.glob("set-aside-*.sqlite"))
    assert service.get(service.start())


def test_what_waits_for_a_store_that_is_not_used_any_more_is_told(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    first = service_of(redis_server)
    redis_server.kill()
    first.start()
    with running("valkey") as other:
        moved = service_of(other)  # the usual answer to an outage
        moved.start()
        with moved.app.app_context():
            assert "writes wait in" in str(moved.convstore.health().problem)
    assert "for a store that is not this one any more" in caplog.text


def test_health_is_bad_where_nothing_can_be_started_though_something_waits(redis_server: Server) -> None:
    service = service_of(redis_server)
    redis_server.kill()
    service.start()
    redis_server.start("--requirepass", "new")
    wait_for(lambda: service.client.get("/sessions/health").status_code == 503, "it is said to be well")
    assert problem(service.client.post("/sessions", json={}), 503, "misconfigured")


def test_a_server_that_refuses_writes_only_is_told_once(redis_server: Server) -> None:
    service = service_of(redis_server)
    session_id = service.start()
    with heard(service) as told:
        redis_server.client.config_set("maxmemory", 1)
        for _ in range(3):
            assert service.client.get("/sessions/health").status_code == 200
            problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": "x"}), 503, "unavailable")
        redis_server.client.config_set("maxmemory", 0)
        service.say(session_id)
    outages = [name for name, _ in told if name.startswith("store-")]
    assert outages == ["store-degraded", "store-recovered"]


# ---- under gunicorn


@contextlib.contextmanager
def gunicorn(server: Server, instance: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "CONVSTORE_URL": server.url, "INSTANCE": str(instance)}
    environment.update({f"CONVSTORE_{name}": value for name, value in settings.items()})
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--log-level", "critical"]
    command += ["--bind", f"127.0.0.1:{port}", "tests.turn_app:create_app()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_for(lambda: _status(port) in (200, 503), "the app does not come up")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _status(port: int) -> int | None:
    client = Client(port)
    try:
        return client.call("GET", "/sessions/health")[0]
    except OSError:
        return None
    finally:
        client.close()


def _health(port: int) -> Any:
    client = Client(port)
    try:
        return client.call("GET", "/sessions/health")[1]
    finally:
        client.close()


def converse(port: int, number: int, turns: int, keep_on: threading.Event | None = None) -> tuple[str, list[str]]:
    """Start a session and speak in it. The result is its id and the acknowledged messages."""
    client = Client(port)
    status, session = client.call("POST", "/sessions", {})
    assert status == 201, session
    session_id, acknowledged = session["session_id"], []
    for turn in range(turns):
        try:
            status, _ = client.call("POST", f"/sessions/{session_id}/messages", {"content": f"{number} {turn}"})
        except OSError:
            break
        if status == 201:
            acknowledged += [f"{number} {turn}", f"re: {number} {turn}"]
    client.close()
    return session_id, acknowledged


@pytest.mark.parametrize("preload", ["", "--preload"])
def test_killed_workers_lose_nothing_that_was_acknowledged(
    redis_server: Server, tmp_path: Path, preload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", preload)
    port = free_port()
    with gunicorn(redis_server, tmp_path, port, RETRIES="0") as process:
        redis_server.kill()
        with ThreadPoolExecutor(4) as pool:
            spoken = list(pool.map(lambda number: converse(port, number, 10), range(8)))
        assert all(len(acknowledged) == 20 for _, acknowledged in spoken)
        assert _health(port)["pending"] > 8 * 20
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: _status(port) == 200, "no new workers")
        for session_id, acknowledged in spoken:  # any worker knows them
            client = Client(port)
            assert contents(client.call("GET", f"/sessions/{session_id}")[1]) == acknowledged
            client.close()

        redis_server.start()
        wait_for(lambda: _health(port)["connected"] and not _health(port)["pending"], "nothing is handed over", 40)
        client = Client(port)
        for session_id, acknowledged in spoken:
            status, shown = client.call("GET", f"/sessions/{session_id}")
            assert (status, contents(shown), "degraded" in shown) == (200, acknowledged, False)
            assert [message["seq"] for message in shown["history"]] == list(range(1, 21))
        client.close()


def test_the_process_that_hands_over_may_die(redis_server: Server, tmp_path: Path) -> None:
    port = free_port()
    with gunicorn(redis_server, tmp_path, port, RETRIES="0") as process:
        redis_server.kill()
        with ThreadPoolExecutor(4) as pool:
            spoken = list(pool.map(lambda number: converse(port, number, 40), range(8)))
        redis_server.start()
        seen = _health(port)["pending"]
        for _ in range(100):
            if _health(port)["pending"] < seen:
                break
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: _status(port) == 200, "no new workers")
        wait_for(lambda: _health(port)["connected"] and not _health(port)["pending"], "nothing is handed over", 40)
        client = Client(port)
        for session_id, acknowledged in spoken:
            assert contents(client.call("GET", f"/sessions/{session_id}")[1]) == acknowledged
        client.close()


def test_another_host_does_not_say_that_there_is_no_such_session(redis_server: Server) -> None:
    service = service_of(redis_server)
    problem(service.client.get(f"/sessions/{id_made_away()}"), 503, "unavailable")
    problem(service.client.get(f"/sessions/{uuid.uuid4()}"), 404, "not-found")


def test_an_id_that_no_host_of_the_app_has_made_is_no_reason_to_be_away(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can write a UUID of version 8. A proxy that counts 503 would take the host out."""
    service = service_of(redis_server)
    service.app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", b"old"])
    for keys in ([], [b"another"]):
        problem(service.client.get(f"/sessions/{id_made_away(keys)}"), 404, "not-found")
    assert not caplog.records
    for key in (b"new", b"old", b"older"):
        problem(service.client.get(f"/sessions/{id_made_away([key])}"), 503, "unavailable")


@pytest.mark.server
def test_it_works_with_every_server(tmp_path: Path) -> None:
    for kind in programs():
        with running(kind, "--appendonly", "yes") as server:
            service = service_of(server)
            server.kill()
            session_id = service.start(message={"content": "hi"})
            server.start()
            handed_over(service)
            assert contents(service.get(session_id)) == ["hi", "re: hi"]


def test_all_sessions_of_an_owner_are_deleted_also_where_another_host_has_them(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of the other host comes back from its journal only if it began after the deletion."""
    here = OwnedService(redis_server.url, RETRIES=0, CIRCUIT_FAILURES=1)
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda app: str(tmp_path / "other host"))
    other = OwnedService(redis_server.url, RETRIES=0, CIRCUIT_FAILURES=1)
    monkeypatch.setattr(Replayer, "_replay", lambda _: None)
    redis_server.kill()
    for _ in range(3):
        assert other.call("ada", "POST", json={}).status_code == 201
    anothers = other.json(other.call("bob", "POST", json={}), 201)["session_id"]
    here.json(here.call("ada", "POST", json={}), 201)
    redis_server.start()
    wait_for(lambda: here.call("ada", "GET").status_code == 200, "it is not noticed")
    shown = here.json(here.call("ada", "GET"), 200)
    assert (shown["sessions"], shown["pending"]) == ([], 1), "one waits on this host"
    assert here.json(here.call("ada", "DELETE"), 200) == {"deleted": 1, "complete": True}
    assert "pending" not in here.json(here.call("ada", "GET"), 200)
    redis_server.kill()
    later = other.json(other.call("ada", "POST", json={}), 201)["session_id"]
    redis_server.start()
    monkeypatch.undo()
    for service in (here, other):
        handed_over(service)
    shown = here.json(here.call("ada", "GET"), 200)
    assert [one["session_id"] for one in shown["sessions"]] == [later]
    assert here.call("bob", "GET", f"/{anothers}").status_code == 200
