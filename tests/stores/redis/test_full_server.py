"""A full server (`maxmemory`, `noeviction`): whatever reads, deletes or redacts is done, other writes are refused whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.errors import SessionNotFound, StoreUnavailable
from flask_convstore.stores.redis.calls import Calls

from ...servers import Server, programs, running

pytestmark = pytest.mark.server

ADA: dict[str, Any] = {"owner": "ada"}
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.fixture(params=sorted(programs()))
def full(request: pytest.FixtureRequest) -> Iterator[tuple[Server, ConversationStore]]:
    """A store, in an app context, on a server that becomes full when all is there."""
    app = Flask("full")
    with running(request.param, "--maxmemory-policy", "noeviction") as server:
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none", CONVSTORE_MAX_TURNS_PER_MINUTE=60)
        store = ConversationStore(app)
        app.register_blueprint(store.blueprint)
        store.owner_loader(lambda: "ada")
        with app.app_context():
            for name in ("a", "b", "c"):
                store.save_session(name, {"topic": "x", "history": MESSAGES}, **ADA)
            store.append("a", "again", token="known-token-of-a-write", **ADA)
            store.share("a", "bob", **ADA)
            store.sessions["mapped"] = {"history": MESSAGES}
            store.sessions.flush()
            server.client.config_set("maxmemory", "1mb")
            yield server, store
            store.close()


def test_every_read_answers(full: tuple[Server, ConversationStore]) -> None:
    _, store = full
    for owner in ({}, ADA):
        session: Any = store.get_session("b", **owner)
        assert session == {"topic": "x", "history": MESSAGES}
        last: Any = store.get_session("b", last=1, **owner)
        assert last["history"] == MESSAGES[1:]
        assert store.get_session("b", last=0, **owner)
        assert [one.body for one in store.messages("b", **owner).messages] == MESSAGES
        assert store.exists("b", **owner)
        assert store.touch("b", **owner)
    assert {one.session_id for one in store.list_sessions(**ADA).sessions} == {"a", "b", "c"}
    assert len([line for line in store.export_owner(**ADA) if "session_id" in line]) == 3
    assert store.append("a", "again", token="known-token-of-a-write", **ADA).repeated
    with store.sessions.scope():
        assert len(dict(store.sessions.items())) == 4
        assert store.sessions["mapped"] == {"history": MESSAGES}


def test_http_reads_and_deletes(full: tuple[Server, ConversationStore]) -> None:
    app = Flask("http")
    app.config.update(CONVSTORE_URL=full[0].url, CONVSTORE_FALLBACK="none")
    store = ConversationStore(app)
    app.register_blueprint(store.blueprint)
    store.owner_loader(lambda: "ada")
    client = app.test_client()
    for path in ("", "/b", "/b?last=1", "/b/messages", "/export", "/health"):
        assert client.get(f"/sessions{path}").status_code == 200, path
    assert client.delete("/sessions/b/messages/1").status_code == 200
    assert client.delete("/sessions/b").status_code == 200
    assert client.delete("/sessions").get_json() == {"deleted": 2, "complete": True}
    with app.app_context():
        store.close()


def test_what_takes_away_is_done(full: tuple[Server, ConversationStore]) -> None:
    server, store = full
    store.redact_message("a", 1, **ADA)
    session: Any = store.get_session("a", **ADA)
    assert session["history"][0] == {"role": "user", "content": ""}
    store.drop("a", newest=1, **ADA)
    store.drop("a", message=1, **ADA)
    assert store.pop_message("a", **ADA)
    assert len(store.messages("a", **ADA).messages) == 0
    store.unshare("a", "bob", **ADA)
    assert store.get_session("a", owner="bob") is None
    assert store.delete_session("c", **ADA)
    with store.sessions.scope():
        assert store.sessions.pop("mapped")
    assert store.delete_owner(**ADA).complete
    assert not store.list_sessions(**ADA).sessions
    assert not list(server.client.scan_iter("*:history"))


def test_every_write_that_needs_memory_is_refused_whole(full: tuple[Server, ConversationStore]) -> None:
    server, store = full
    session: Any = store.get_session("a", **ADA)
    session["history"].append("more")
    keys = sorted(server.client.scan_iter())
    before = [server.client.dump(key) for key in keys]
    writes: list[Callable[[], Any]] = [
        lambda: store.append("a", "x", **ADA),
        lambda: store.save_session("a", session, **ADA),
        lambda: store.save_session("new", {"history": []}, **ADA),
        lambda: store.edit_message("a", 1, "shorter", **ADA),
        lambda: store.edit_message("a", 1, '"status":"redacted"}\n', **ADA),
        lambda: store.touch("a", ttl=60, **ADA),
        lambda: store.share("a", "eve", **ADA),
        lambda: store.turn("a", "x", **ADA).__enter__(),
        lambda: store.turn("a", "x").__enter__(),
    ]
    for write in writes:
        with pytest.raises(StoreUnavailable, match="maxmemory") as caught:
            write()
        assert caught.value.written is False
    assert sorted(server.client.scan_iter()) == keys
    assert [server.client.dump(key) for key in keys] == before


def test_nothing_is_read_for_a_stranger(full: tuple[Server, ConversationStore]) -> None:
    server, store = full
    client: Any = server.client

    def reads() -> int:
        return int(client.info("commandstats").get("cmdstat_lrange", {"calls": 0})["calls"])

    store.get_session("b", owner="mallory")  # the server knows the script now
    before = reads()
    for _ in range(3):
        assert store.get_session("b", owner="mallory") is None
    with pytest.raises(SessionNotFound):
        store.messages("b", owner="mallory")
    assert reads() == before


def test_a_server_that_becomes_full_at_the_beginning_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn is begun, and the server reads nothing behind the gate any more."""
    app = Flask("becomes full")
    with running(sorted(programs())[0], "--maxmemory-policy", "noeviction") as server, app.app_context():
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        store.save_session("s", {"history": MESSAGES}, **ADA)
        read = Calls.read

        def cut(self: Calls, call: Any, *rest: Any) -> list[Any]:
            replies = read(self, call, *rest)
            return replies[:1] if call.name == "begin_turn" else replies

        monkeypatch.setattr(Calls, "read", cut)
        with store.turn("s", "hello", **ADA) as turn:
            assert [*turn.history][-1] == {"role": "user", "content": "hello"}
            turn.reply("hi")
        store.close()
