"""A session that lost a part is mended by whatever replaces or deletes it, and bricks nothing."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore
from flask_convstore.config import Settings
from flask_convstore.domain.commands import Append, Delete, Put
from flask_convstore.domain.messages import join_element
from flask_convstore.errors import CorruptValue, SessionNotFound
from flask_convstore.operations import salvage
from flask_convstore.stores.redis.store import RedisStore

from ...harness import limits_for
from ...servers import Server, running

KEY = "chat:session:{s}"
PARTS = {
    "the hash": KEY,
    "the history": f"{KEY}:history",
    "the tokens": f"{KEY}:tokens",
    "the receipts": f"{KEY}:receipts",
}
HISTORY = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


class Shop:
    """An app with a session "s", which will be damaged, and a whole one."""

    def __init__(self, server: Server) -> None:
        self.client = server.client
        self.app = Flask("damage")
        self.app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none")
        self.store = ConversationStore(self.app)
        self.app.register_blueprint(self.store.blueprint, url_prefix="/sessions")
        self.store.owner_loader(lambda: "ann")
        self.sessions = self.store.sessions
        with self.app.test_request_context("/"):
            for name in ("s", "whole"):
                self.store.save_session(name, {"topic": "tea", "history": [*HISTORY]})
            self.store.append("s", {"role": "user", "content": "more"}, token="T")

    def request(self, call: Callable[[], Any]) -> Any:
        with self.app.test_request_context("/"):
            found = call()
            self.app.process_response(self.app.make_response("done"))
            return found


@pytest.fixture
def shop(valkey: Server) -> Shop:
    return Shop(valkey)


def _typed(key: str) -> list[list[str]]:
    return [["DEL", key], ["SET", key, "x"], ["EXPIRE", key, "60"]]


DAMAGES: dict[str, list[list[Any]]] = {
    **{
        " and ".join(names): [["DEL", PARTS[name]] for name in names]
        for count in (1, 2, 3)
        for names in itertools.combinations(PARTS, count)
    },
    **{f"{name} of another type": _typed(key) for name, key in PARTS.items()},
    "a part of the history": [["LPOP", f"{KEY}:history"]],
    "the version": [["HDEL", KEY, "version", "created"]],
    "all but the owner": [["HDEL", KEY, "version", "created", "count", "first", "shape", "updated", "history_version"]],
    "a time that is none": [["HSET", KEY, "created", "1e30"]],
    "a creation in no time that comes": [["HSET", KEY, "created", "99999999999999999"]],
    "a change in no time that comes": [["HSET", KEY, "updated", "99999999999999999"]],
    "a title that is no text": [["HSET", KEY, "title", b"\xff"]],
    "a field that is no JSON": [["HSET", KEY, "d:topic", "{broken"]],
    "a message that is none": [["LSET", f"{KEY}:history", "0", "x"]],
}

CURES: dict[str, Callable[[Shop], Any]] = {
    "save": lambda shop: shop.store.save_session("s", {"history": []}),
    "an assignment": lambda shop: shop.sessions.__setitem__("s", {"history": []}),
    "delete": lambda shop: shop.store.delete_session("s"),
    "del": lambda shop: shop.sessions.pop("s", None),
    "clear": lambda shop: shop.sessions.clear(confirm=True),
    "delete_owner": lambda shop: shop.store.delete_owner(),
    "DELETE": lambda shop: shop.app.test_client().delete("/sessions/s"),
}


def _damaged(shop: Shop, damage: str) -> None:
    for command in DAMAGES[damage]:
        shop.client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("cure", CURES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_replaces_or_deletes_a_damaged_session_mends_it(shop: Shop, damage: str, cure: str) -> None:
    """Behind it the id is as good as new."""
    _damaged(shop, damage)
    shop.request(lambda: CURES[cure](shop))
    found = shop.request(lambda: shop.store.get_session("s"))
    assert found == ({"history": []} if cure in ("save", "an assignment") else None)
    shop.request(lambda: shop.store.save_session("s", {"history": []}))
    shop.request(lambda: shop.store.append("s", HISTORY[0], token="T2"))
    assert shop.request(lambda: shop.store.get_session("s")) == {"history": [HISTORY[0]]}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_session_spoils_no_other(shop: Shop, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Loops skip it. A loop over it is no interaction."""
    _damaged(shop, damage)
    with caplog.at_level(logging.WARNING):
        values = shop.request(lambda: list(shop.sessions.values()))
    assert {"topic": "tea", "history": HISTORY} in values
    assert shop.request(lambda: "whole" in {found.session_id for found in shop.store.list_sessions().sessions})
    assert any(line["session_id"] == "whole" for line in shop.request(lambda: list(shop.store.export_owner())))
    assert shop.request(lambda: shop.sessions["whole"]["topic"]) == "tea"


LEFT: dict[str, Any] = {
    "the history": {"topic": "tea", "history": []},
    "the tokens": {"topic": "tea", "history": [*HISTORY, {"role": "user", "content": "more"}]},
    "the hash": {"history": [*HISTORY, {"role": "user", "content": "more"}]},
    "the hash and the history": None,
    "the hash and the tokens": None,
    "a part of the history": {"topic": "tea", "history": [HISTORY[1], {"role": "user", "content": "more"}]},
    "all but the owner": {"topic": "tea", "history": [*HISTORY, {"role": "user", "content": "more"}]},
    "a field that is no JSON": {"history": [*HISTORY, {"role": "user", "content": "more"}]},
    "a message that is none": {"topic": "tea", "history": [HISTORY[1], {"role": "user", "content": "more"}]},
    "the history of another type": {"topic": "tea", "history": []},
}


@pytest.mark.parametrize("damage", LEFT)
def test_what_is_left_can_be_read_on_purpose(shop: Shop, damage: str) -> None:
    """By the owner alone."""
    _damaged(shop, damage)
    assert shop.request(lambda: shop.store.salvage("s")) == LEFT[damage]
    assert shop.store.salvage("s", owner="bob") is None
    assert shop.store.salvage("s", owner=None) is None
    if damage == "the hash and the tokens":  # nobody knows whose it is
        assert shop.store.salvage("s", owner=ANY)


@pytest.mark.parametrize(
    "damage", ["the history", "a part of the history", "the history of another type", "the version"]
)
def test_reading_a_damaged_session_is_an_error_that_moves_no_lifetime(shop: Shop, damage: str) -> None:
    """It would live for ever."""
    _damaged(shop, damage)
    shop.client.pexpire(KEY, 5_000)
    with pytest.raises(
        CorruptValue, match=r"Save a plain dict, or delete the session\. salvage\(\) reads what is left"
    ):
        shop.request(lambda: shop.store.get_session("s"))
    assert shop.app.test_client().get("/sessions/s").status_code == 500
    assert shop.app.test_client().get("/sessions/s/messages").status_code == 500
    assert shop.client.pttl(KEY) <= 5_000


def test_a_popped_session_gives_what_is_left(shop: Shop) -> None:
    """So does ``del``, which gives nothing."""
    _damaged(shop, "the history")
    assert shop.request(lambda: shop.sessions.pop("s")) == {"topic": "tea", "history": []}
    assert shop.request(lambda: "s" in shop.sessions) is False


def test_a_session_without_its_history_keeps_what_stands_in_its_hash(shop: Shop) -> None:
    """A replaced session stays shared."""
    shop.request(lambda: shop.store.share("s", "bob", "reader"))
    _damaged(shop, "the history")
    shop.request(lambda: shop.store.save_session("s", {"history": []}))
    assert shop.store.get_session("s", owner="bob") == {"history": []}


def test_an_alias_of_a_damaged_session_can_be_cleared(shop: Shop) -> None:
    """The next message begins anew."""
    session_id = shop.request(lambda: shop.store.resolve("x", create=True).session_id)
    shop.request(lambda: shop.store.append(session_id, HISTORY[0]))
    shop.client.delete(f"chat:session:{{{session_id}}}:history")
    assert shop.request(lambda: shop.store.clear("x"))
    assert shop.request(lambda: shop.store.resolve("x")) is None


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
def test_a_server_that_evicts_is_told_once(valkey: Server, policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """Behind the first session, since nothing is asked before."""
    valkey.client.config_set("maxmemory-policy", policy)
    try:
        shop = Shop(valkey)
        shop.request(lambda: shop.store.save_session("another", {}))
    finally:
        valkey.client.config_set("maxmemory-policy", "noeviction")
    told = [record.getMessage() for record in caplog.records if "evicts keys" in record.getMessage()]
    assert len(told) == (policy != "noeviction")
    assert all(policy in line for line in told)


@pytest.mark.server
def test_on_a_server_that_evicts_no_session_is_bricked_and_none_is_mixed() -> None:
    """A session that lost its hash is gone whole. A session that lost its history can be begun anew."""
    with running("valkey", "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random") as server:
        app = Flask("evicting")
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none", CONVSTORE_MAX_SESSIONS=0)
        store = ConversationStore(app)
        text, names = "x" * 300, [f"s{number}" for number in range(800)]
        for turn, name in itertools.product(range(4), names):
            with app.app_context(), contextlib.suppress(CorruptValue, SessionNotFound):
                if not turn:
                    store.save_session(name, {"name": name, "history": []})
                store.append(name, {"role": "user", "content": f"{name} {turn} {text}"})
        assert int(server.client.info("stats")["evicted_keys"]) > 100
        found = [_read(app, store, name) for name in names]
        assert {kind for kind, _ in found} == {"whole", "gone", "damaged"}
        for name, (kind, session) in zip(names, found, strict=True):
            if kind == "whole":
                assert session["name"] == name
                assert all(message["content"].startswith(f"{name} ") for message in session["history"])
        server.client.config_set("maxmemory", 0)
        for name in names:
            with app.app_context():
                store.save_session(name, {"name": name, "history": []})
                store.append(name, HISTORY[0])
            assert _read(app, store, name) == ("whole", {"name": name, "history": [HISTORY[0]]})


def _read(app: Flask, store: ConversationStore, name: str) -> tuple[str, Any]:
    with app.app_context():
        try:
            session = store.get_session(name)
        except CorruptValue:
            return "damaged", store.salvage(name)
        return ("gone", None) if session is None else ("whole", session)


@pytest.mark.parametrize(
    "damage",
    [
        "the history",
        "the history of another type",
        "the version",
        "the hash of another type",
        "a creation in no time that comes",
        "a change in no time that comes",
        "a title that is no text",
    ],
)
def test_lists_leave_out_a_damaged_session_and_warn(shop: Shop, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Reading it would fail. An export names it, and it can be deleted."""
    _damaged(shop, damage)
    salvage.damage_log._next_at = 0
    with caplog.at_level(logging.WARNING):
        listed = shop.request(shop.store.list_sessions).sessions
    assert [found.session_id for found in listed] == ["whole"]
    assert "a damaged session is skipped: chat:session:{s}" in caplog.text
    exported = shop.request(lambda: list(shop.store.export_owner()))
    assert {"session_id": "s", "corrupt": True} in exported
    shown = shop.app.test_client().get("/sessions/export").data.splitlines()
    assert len(shown) == len(exported) == 2


@pytest.mark.parametrize("first", ["get_session", "append"])
def test_a_server_that_evicts_is_told_at_the_first_contact(
    valkey: Server, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the process only reads, and in health."""
    shop = Shop(valkey)
    assert shop.store.health().evicts is None
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        app = Flask("again")
        app.config.update(CONVSTORE_URL=valkey.url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        with caplog.at_level(logging.WARNING), app.app_context():
            for _ in range(2):
                if first == "append":
                    store.append("s", HISTORY[0], owner=ANY)
                else:
                    store.get_session("none", owner=ANY)
            assert store.health().evicts == "allkeys-lru"
    finally:
        valkey.client.config_set("maxmemory-policy", "noeviction")
    assert caplog.text.count("maxmemory-policy allkeys-lru") == 1


@pytest.mark.parametrize("damage", ["a field that is no JSON", "a message that is none"])
def test_a_value_that_is_no_json_lets_no_reader_keep_the_session_alive(shop: Shop, damage: str) -> None:
    """The store sees no fault, so that the first reader in a process moves the lifetime, and no other does."""
    get = shop.app.test_client().get
    _damaged(shop, damage)
    assert get("/sessions/s").status_code == 500
    shop.client.pexpire(KEY, 5_000)
    assert get("/sessions/s").status_code == 500
    with pytest.raises(CorruptValue):
        shop.request(lambda: shop.store.get_session("s"))
    assert shop.client.pttl(KEY) <= 5_000
    shop.request(lambda: shop.store.save_session("s", {"history": []}))
    shop.client.pexpire(KEY, 5_000)
    for _ in range(2):
        shop.client.pexpire(KEY, 5_000)
        assert get("/sessions/s").status_code == 200
        assert shop.client.pttl(KEY) > 5_000


def test_a_damaged_session_with_ids_and_many_receipts_is_deleted(server: Server) -> None:
    """The receipts are tidied up then, with the ids of messages that are gone."""
    store = RedisStore(server.client, "chat:session:", limits_for(Settings(max_tokens=4)))
    element = join_element(1, b"1", {"id": "x"})
    store.apply(Put(session_id="s", owner=ANY, mode="create", shape="full", elements=(element,)))
    for _ in range(5):
        store.apply(Append(session_id="s", owner=ANY, elements=(join_element(1, b"1"),)))
    server.client.hdel("chat:session:{s}", "first")
    store.apply(Delete(session_id="s", owner=ANY))
    assert not server.client.exists("chat:session:{s}")
    assert not server.client.hexists("chat:session:{s}:receipts", "m:x")


@pytest.mark.parametrize("field", ["title", "gaps", "count", "shape", "version", "d:topic", "tokens_in", "streams"])
def test_no_error_of_a_damaged_session_quotes_what_it_holds(
    shop: Shop, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and shown where text is hidden."""
    shop.client.hset(KEY, field, b"Zebra\xff")
    shop.client.lset(f"{KEY}:history", 0, '\x01{"t": "Zebra"}\n{"Zebra')
    salvage.damage_log._next_at = 0
    with caplog.at_level(logging.DEBUG), shop.app.test_request_context("/"):
        told = [str(list(shop.store.export_owner()))]
        for read in (shop.store.get_session, shop.store.messages, lambda _: shop.store.list_sessions()):
            try:
                read("s")
            except CorruptValue as error:
                told.append(str(error))
    assert len(told) > 1
    assert "Zebra" not in str(told) + caplog.text
