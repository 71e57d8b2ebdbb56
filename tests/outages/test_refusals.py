"""An app whose server refuses it for good: loud, once, and nothing is hidden in a journal."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from flask_convstore import StoreMisconfigured, StoreUnavailable
from flask_convstore.domain.commands import Append
from flask_convstore.domain.types import ANY
from flask_convstore.outages.circuit import CircuitStore
from flask_convstore.outages.refusals import TIMES, Refusals, kind_of
from flask_convstore.stores.redis import calls

from ..servers import Server, running
from ..service import Service, problem
from ..wire import speaking
from .test_circuit import WATCH, World
from .test_outage import contents, handed_over, journals

STRANGE = b"-ERR the quota of the day is used up\r\n"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log that tell of a refusal."""
    return [record.getMessage() for record in caplog.records if "cannot be used" in record.getMessage()]


def health_of(service: Service) -> Any:
    with service.app.app_context():
        return service.convstore.health()


@pytest.mark.server
@pytest.mark.parametrize(
    ("options", "path", "cure"),
    [
        ((), "/16", "end the URL with"),
        (("--databases", "1"), "/1", "end the URL with"),
        (("--rename-command", "EVALSHA", ""), "/0", "allow the commands"),
        (("--rename-command", "HMGET", ""), "/0", "allow the commands"),
    ],
)
def test_a_wrong_server_is_loud_and_no_reason_to_start_anything_elsewhere(
    options: tuple[str, ...], path: str, cure: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running("valkey", *options) as server:
        service = Service(server.url[:-2] + path)
        for _ in range(4):
            refused = service.client.post("/sessions", json={})
            problem(refused, 503, "misconfigured")
            assert refused.headers["Retry-After"] == "60"
        with service.app.app_context(), pytest.raises(StoreMisconfigured, match=cure):
            service.convstore.save_session("s", {})
        health = health_of(service)
        shown = service.client.get("/sessions/health")
    assert cure in health.problem
    assert shown.status_code == (200 if health.connected else 503)
    assert shown.json
    assert not shown.json["connected"] or shown.json["degraded"]
    assert not journals(tmp_path)
    (line,) = errors(caplog)
    assert cure in line
    (record,) = [record for record in caplog.records if record.getMessage() == line]
    assert record.levelno == logging.ERROR


def test_an_error_that_nobody_knows_is_no_outage_when_it_repeats_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with speaking(answer=STRANGE, pong=b"+PONG\r\n") as port:
        service = Service(f"redis://127.0.0.1:{port}/0")
        for _ in range(TIMES - 1):
            started = service.start()
        for _ in range(3):
            problem(service.client.post("/sessions", json={}), 503, "misconfigured")
            service.client.get("/sessions/health")
        assert service.get(started)["session_id"] == started, "what is in the journal is served from there"
        assert "quota of the day" in health_of(service).problem
    (line,) = errors(caplog)
    assert "quota of the day" in line
    assert journals(tmp_path)


@pytest.mark.server
def test_what_a_server_refuses_while_the_app_runs_is_told_and_mended() -> None:
    with running("valkey") as server:
        client: Any = server.client
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
        service = Service(f"redis://u:p@127.0.0.1:{server.port}/0")
        session_id = service.start()
        client.execute_command("ACL", "SETUSER", "u", "-evalsha", "-eval")
        problem(service.client.post("/sessions", json={}), 503, "misconfigured")
        problem(service.client.get(f"/sessions/{session_id}"), 503, "misconfigured")
        assert "evalsha" in health_of(service).problem
        client.execute_command("ACL", "SETUSER", "u", "+evalsha", "+eval")
        service.start()
        health = health_of(service)
        assert (health.problem, health.degraded) == (None, False)


@pytest.mark.server
def test_sessions_of_the_journal_go_on_while_the_server_refuses_us(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server comes back with fewer databases, and then as it was."""
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as server:
        service = Service(server.url[:-1] + "1", RETRIES=0, CIRCUIT_FAILURES=1000)
        before = service.start()
        server.kill()
        session_id = service.start()
        server.start("--databases", "1", "--appendonly", "no")
        for _ in range(2):
            problem(service.client.post("/sessions", json={}), 503, "misconfigured")
            service.say(session_id, "hi")
        problem(service.client.get(f"/sessions/{before}"), 503, "misconfigured")
        assert contents(service.get(session_id)) == ["hi", "hi"]
        server.kill()
        server.start()
        handed_over(service)
        assert contents(service.get(session_id)) == ["hi", "hi"]
        assert service.get(before)
    assert len(errors(caplog)) == 1
    assert len(journals(tmp_path)) == 1


# ---- counting


UNKNOWN = StoreUnavailable("odd", written=None)
READS, WRITES = ("load", str), ("apply", dict)


def test_it_becomes_a_wrong_setting_after_so_many_calls() -> None:
    refusals = Refusals()
    assert [bool(refusals.explained(WRITES, UNKNOWN)) for _ in range(TIMES + 1)] == [False, False, True, True]
    refused = refusals.explained(WRITES, UNKNOWN)
    assert refused
    assert refused.written is None
    assert "odd" in str(refused)


def test_a_success_in_between_begins_anew_but_none_of_another_kind() -> None:
    refusals = Refusals()
    for _ in range(TIMES - 1):
        refusals.explained(WRITES, UNKNOWN)
    assert not refusals.accepted(READS)
    assert refusals.explained(WRITES, UNKNOWN)
    refusals.accepted(WRITES)
    assert not refusals.explained(WRITES, UNKNOWN)


def test_a_refusal_is_news_once_until_it_is_over() -> None:
    refusals = Refusals()
    told = StoreMisconfigured("wrong: mend it")
    assert [refusals.refused(kind, told) for kind in (WRITES, READS, WRITES)] == [True, False, False]
    assert refusals.problem == "wrong: mend it"
    assert not refusals.accepted(("ping", None))
    assert refusals.accepted(READS)
    assert refusals.problem is None
    assert refusals.refused(WRITES, told)


def test_a_kind_is_a_method_and_a_command() -> None:
    assert kind_of(Refusals.refused, ()) == ("refused", None)
    assert kind_of(Refusals.refused, ("s", 1)) == ("refused", str)


def odd() -> StoreUnavailable:
    error = StoreUnavailable("odd", written=None)
    error.is_unexplained = True
    return error


def test_writes_to_several_sessions_are_one_call_and_each_gets_the_refusal() -> None:
    world = World()
    commands = [Append(session_id=name, owner=ANY, elements=()) for name in "st"]
    world.inner.error = odd()
    found = [world.store.apply_each(commands) for _ in range(TIMES)]
    assert [[type(one) for one in answers] for answers in found] == [
        *[[StoreUnavailable, StoreUnavailable]] * (TIMES - 1),
        [StoreMisconfigured, StoreMisconfigured],
    ]


def test_the_replay_that_tries_again_and_again_does_not_count() -> None:
    """It would make a wrong setting of any outage of a second."""
    world = World()
    world.inner.error = odd()
    replay = CircuitStore(world.inner, world.circuit, WATCH, is_for_callers=False)
    for _ in range(2 * TIMES):
        with pytest.raises(StoreUnavailable):
            replay.ping()
    with pytest.raises(StoreUnavailable):
        world.store.ping()


def test_mixed_up_replies_are_an_outage_however_often_they_come(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that swaps replies for a while is no wrong setting. Chaos has seen it, under load."""
    service = Service(valkey.url)
    with service.app.app_context():
        service.convstore.save_session("s", {"n": 1})
        monkeypatch.setattr(calls.Calls, "read", _mixed_up)
        for _ in range(3 * TIMES):
            with pytest.raises(StoreUnavailable):
                service.convstore.get_session("s")
        monkeypatch.undo()
        service.convstore.append("s", "on it goes")


def _mixed_up(store_calls: Any, *_: Any) -> None:
    raise store_calls._mixed_up(written=None)
