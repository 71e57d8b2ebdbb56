"""Every operation of the library, against what people write by hand."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import flask
import orjson
import redis

from flask_convstore import ConversationStore, signals
from flask_convstore.domain.messages import bodies_of
from flask_convstore.domain.types import ANY
from flask_convstore.sessions.session import loaded
from tests.servers import Server

from .by_hand import Blob, Floor
from .measure import Comparing, Result

USER = {"role": "user", "content": "u" * 200}
BOT = {"role": "assistant", "content": "a" * 800}


@contextlib.contextmanager
def app_with_store(url: str, **settings: Any) -> Iterator[tuple[flask.Flask, ConversationStore]]:
    """An app with the blueprint, and its context."""
    with tempfile.TemporaryDirectory() as folder:
        app = flask.Flask("bench", instance_path=folder)
        app.config.update(CONVSTORE_URL=url, **{f"CONVSTORE_{name}": value for name, value in settings.items()})
        store = ConversationStore(app)
        app.register_blueprint(store.blueprint)
        with app.app_context():
            yield app, store
            store.close()


def library_results(server: Server, sizes: tuple[int, ...], rounds: int) -> Iterator[Result]:
    """Every operation at every size, and whether an append costs the same at both ends of them."""
    client: Any = redis.Redis(port=server.port)
    compare = Comparing(server.client, rounds)
    with app_with_store(server.url, MAX_SESSIONS=0, MAX_HISTORY=10**7) as (_, store):
        for size in sizes:
            client.flushall()
            yield from _calls(store, client, compare, size)
            yield from _mapping(store, Floor(client), compare, size)
            yield _decoding(store, compare, size)
        yield _with_a_receiver(store, compare)
        yield _flat(store, compare, sizes[0], sizes[-1])
    client.close()


def _calls(store: ConversationStore, client: Any, compare: Comparing, size: int) -> Iterator[Result]:
    floor, blob = Floor(client), Blob(client)
    history = [USER, BOT] * (size // 2)
    for name in ("a", "t", "s", "m"):
        store.save_session(name, {"history": history, "topic": "x"}, ttl=3600)
        floor.append(name, *history)
    store.save_session("o", {"history": history}, owner="alice")
    append, by_hand = partial(store.append, "a", USER, BOT), partial(floor.append, "a", USER, BOT)
    yield compare("append", size, "floor", append, by_hand, 1.25)
    owned = partial(store.append, "o", USER, BOT, owner="alice")
    yield compare("append, with an owner", size, "floor", owned, by_hand, 1.40)
    if size <= 1_000:
        name = blob.start()
        blob.append(name, *history)
        yield compare("append", size, "blob", append, lambda: blob.append(name, USER, BOT), calls=5)

    def turn() -> None:
        with store.turn("t", USER, last=20) as begun:
            begun.reply(BOT)

    yield compare("turn, last 20", size, "floor", turn, lambda: floor.turn("t", USER, BOT), 1.25)
    reading = partial(compare, calls=_few(size))
    yield reading("read all", size, "pipeline", lambda: store.get_session("s"), lambda: floor.read("s"), 1.10)
    yield reading(
        "read the last 20", size, "pipeline", lambda: store.get_session("s", last=20), lambda: floor.read("s", 20)
    )
    yield reading("messages, a page of 50", size, "pipeline", lambda: store.messages("s"), lambda: floor.read("s", 50))
    session: Any = store.get_session("m")
    count = iter(range(10**9))

    def save() -> None:
        session["topic"] = str(next(count))
        store.save_session("m", session)

    yield reading(
        "save a changed field", size, "floor's append", save, lambda: floor.append("m", USER), _at(size, 1_000, 3.0)
    )


def _mapping(store: ConversationStore, floor: Floor, compare: Comparing, size: int) -> Iterator[Result]:
    """A request that looks at one session through the mapping, and one that adds a message to it."""
    sessions = store.sessions
    history = [USER, BOT] * (size // 2)

    def as_before() -> None:
        store.save_session("mapped", {"history": history})
        floor.drop("mapped")
        floor.append("mapped", *history)

    def look() -> None:
        with sessions.scope():
            assert sessions["mapped"]["history"]

    def add() -> None:
        with sessions.scope():
            sessions["mapped"]["history"].append({**USER})  # as apps do: a message that nothing else holds

    def add_by_hand() -> None:
        floor.read("mapped")
        floor.append("mapped", USER)

    measured = partial(compare, calls=_few(size), prepare=as_before)
    yield measured("mapping: read all", size, "pipeline", look, lambda: floor.read("mapped"))
    yield measured("mapping: read all, add one", size, "pipeline, floor", add, add_by_hand, _at(size, 1_000, 1.5))


def _decoding(store: ConversationStore, compare: Comparing, size: int) -> Result:
    """Decoding of an answer of the server: to a session, or only to its JSON."""
    store.save_session("plain", {"history": [USER, BOT] * (size // 2), "topic": "x"})
    snapshot = store._access().backend.store.load("plain", ANY)
    assert snapshot
    text = b'{"topic":"x","history":[' + b",".join(bodies_of(snapshot.elements)) + b"]}"
    assert loaded(snapshot, "history", "") == orjson.loads(text)
    make = partial(loaded, snapshot, "history", "")
    return compare(
        "stored elements > session", size, "orjson.loads", make, partial(orjson.loads, text), _at(size, 100, 1.5)
    )


def _with_a_receiver(store: ConversationStore, compare: Comparing) -> Result:
    """Cost of the receiver of a signal that does nothing itself."""
    store.save_session("told", {"history": []})

    def receiver(*_: Any, **facts: Any) -> None:
        pass

    def told() -> None:
        with signals.messages_appended.connected_to(receiver):
            silent()

    def silent() -> None:
        for _ in range(25):
            store.append("told", USER, BOT)

    return compare("25 appends, a signal received", 0, "none received", told, silent, calls=1)


def _flat(store: ConversationStore, compare: Comparing, few: int, many: int) -> Result:
    """Cost of an append behind many messages against one behind few. Each round has the work that comes now and then,
    such as dropping old tokens."""
    names = [f"short {number}" for number in range(25)]
    in_turn = itertools.cycle(names)

    def grow(name: str, size: int) -> None:
        store.save_session(name, {"history": []})
        for _ in range(size // 2):
            store.append(name, USER, BOT)

    def short_again() -> None:
        for name in names:
            grow(name, few)

    grow("long", many)
    long, short = partial(store.append, "long", USER, BOT), lambda: store.append(next(in_turn), USER, BOT)
    return compare("append", many, f"append at {few}", long, short, 1.10, calls=250, prepare=short_again)


def _at(size: int, aimed: int, target: float) -> float | None:
    """Give the target of a row. Only the row of *aimed* messages has one."""
    return target if size == aimed else None


def _few(size: int) -> int:
    """So many calls of what takes longer the more messages there are."""
    return min(25, max(3, 2_000 // size))
