"""Signals: what happened, told once for each write, after it was acknowledged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from flask_convstore import StoreUnavailable, signals
from flask_convstore.domain.messages import Message

from ..servers import Server, running
from ..service import Service

ALL = (
    signals.session_started,
    signals.messages_appended,
    signals.session_saved,
    signals.session_deleted,
    signals.changes_overwritten,
    signals.changes_lost,
    signals.message_edited,
    signals.store_degraded,
    signals.store_recovered,
)


@contextlib.contextmanager
def heard(service: Service) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The signals of an app, with what came with them."""
    found: list[tuple[str, dict[str, Any]]] = []
    receivers = []
    for signal in ALL:

        def receive(sender: Any, signal: Any = signal, **facts: Any) -> None:
            assert sender is service.app
            assert facts.pop("convstore") is service.convstore
            found.append((signal.name, facts))

        receivers.append(receive)  # blinker holds it weakly
        signal.connect(receive, service.app)
    yield found
    for signal, receive in zip(ALL, receivers, strict=True):
        signal.disconnect(receive, service.app)


def names(found: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in found]


def test_an_edit_is_told(url: str) -> None:
    service = Service(url)
    session_id = service.start(message={"content": "hi"})
    with heard(service) as found:
        service.client.patch(f"/sessions/{session_id}/messages/1", json={"content": "ho"})
        service.client.delete(f"/sessions/{session_id}/messages/1")
    assert [(name, facts["seq"]) for name, facts in found] == [("message-edited", 1)] * 2


def test_each_write_is_told_once(url: str) -> None:
    service = Service(url)
    store = service.convstore
    with service.app.app_context(), heard(service) as found:
        session = store.save_session("s", {"history": ["a", "b"]}, owner="alice")
        assert names(found) == ["session-started", "session-saved", "messages-appended"]
        facts = found[-1][1]
        assert facts.pop("receipt").first_seq == 1
        assert facts == {"session_id": "s", "owner": "alice", "count": 2, "namespace": ""}
        found.clear()
        session["n"] = 1
        store.save_session("s", session)
        store.append("s", Message("c"), token="T")
        store.append("s", Message("c"), token="T")
        store.get_session("s")
        store.touch("s")
        with store.turn("s", "d") as turn:
            turn.reply("e")
        store.delete_session("s")
        store.delete_session("s")
        appended = ["messages-appended"]
        assert names(found) == ["session-saved", *appended, *appended, *appended, "session-deleted"]


def test_namespaces_tell_their_name(url: str) -> None:
    service = Service(url)
    with service.app.app_context(), heard(service) as found:
        service.convstore.mapping("notes")["k"] = "v"
        service.convstore.save_message("ada", "user", "hi")
    assert {facts["namespace"] for _, facts in found} == {"map:notes", "conversations"}


def test_no_signal_holds_what_was_said(url: str) -> None:
    service = Service(url)
    with service.app.app_context(), heard(service) as found:
        service.convstore.save_session("s", {"history": ["the secret"], "x": "the secret"})
        service.convstore.append("s", Message("the secret"))
    assert "secret" not in repr(found)


def test_a_receiver_that_fails_harms_nobody(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(url)

    def fails(sender: Any, **_: Any) -> None:
        raise RuntimeError("receiver")

    signals.session_saved.connect(fails, service.app)
    with service.app.app_context(), heard(service) as found:
        service.convstore.save_session("s", {"n": 1})
        assert service.convstore.get_session("s") == {"n": 1}
    assert "session-saved" in names(found)
    assert "a receiver of the signal session-saved failed" in caplog.text


def test_apps_hear_only_their_own(url: str) -> None:
    one, two = Service("memory://"), Service("memory://")
    with heard(one) as found, two.app.app_context():
        two.convstore.save_session("s", {})
    assert not found


@pytest.mark.server
def test_an_outage_and_its_end_are_told_once() -> None:
    with running("valkey") as server:
        service = Service(server.url, RETRIES=0, CONNECT_TIMEOUT=0.2)
        with service.app.app_context(), heard(service) as found:
            service.convstore.save_session("s", {})
            with paused(server):
                for _ in range(3):
                    with pytest.raises(StoreUnavailable):
                        service.convstore.get_session("s")
            service.convstore.get_session("s")
            service.convstore.get_session("s")
    told = [name for name in names(found) if name.startswith("store")]
    assert told == ["store-degraded", "store-recovered"]
    reason = next(facts["reason"] for name, facts in found if name == "store-degraded")
    assert "server" in reason


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    """The server refuses new connections, and those there are are closed."""
    server.client.config_set("maxclients", 1)
    server.client.client_kill_filter(skipme=True, _type="normal")
    try:
        yield
    finally:
        server.client.config_set("maxclients", 100)
