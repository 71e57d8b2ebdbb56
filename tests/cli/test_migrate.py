"""``migrate``: conversations of other code, byte by byte as that code writes them."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis.crc import key_slot

from flask_convstore import ANY, ConversationStore
from flask_convstore.operations.migrating import msgpack

from ..servers import Server, running
from ..topologies import cluster
from .commands import lines, run

HI = {"role": "user", "content": "hi"}
REPLY = {"role": "assistant", "content": "hello", "n": [1, {"a": None}]}


@pytest.fixture
def app(valkey: Server) -> Flask:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url, CONVSTORE_FALLBACK="none")
    ConversationStore(app)
    return app


def store_of(app: Flask) -> ConversationStore:
    store: ConversationStore = app.extensions["convstore"]["convstore"].convstore
    return store


def migrated(valkey: Server, *words: str, status: int = 0) -> dict[str, Any]:
    (counts,) = lines(run(valkey.url, "migrate", *words, "--json", status=status))
    return {name: count for name, count in counts.items() if count}


def loaded(app: Flask, session_id: str, **options: Any) -> Any:
    with app.app_context():
        return store_of(app).get_session(session_id, **{"owner": ANY, **options})


def by_hand(valkey: Server, session_id: str, value: Any, seconds: int = 3600) -> None:
    valkey.client.set(f"chat:session:{session_id}", json.dumps(value), ex=seconds)


# ---- JSON strings


def test_hand_written_sessions_under_our_own_prefix_are_taken_over(app: Flask, valkey: Server) -> None:
    by_hand(valkey, "a", {"history": [HI, REPLY], "user": "ada", "n": 1.5})
    by_hand(valkey, "b", [HI])
    by_hand(valkey, "user/7", {"history": [], "deep": {"z": 1, "a": [True]}})
    with app.app_context():
        store_of(app).save_session("ours", {"history": [HI]})
        store_of(app).link("alias", "ours")
    assert migrated(valkey, "json") == {"new": 3}
    assert loaded(app, "a") == {"history": [HI, REPLY], "user": "ada", "n": 1.5}
    assert loaded(app, "b") == {"history": [HI]}
    assert loaded(app, "user/7") == {"history": [], "deep": {"z": 1, "a": [True]}}
    assert list(loaded(app, "user/7")["deep"]) == ["z", "a"]
    assert json.loads(valkey.client.get("chat:session:a") or b"")["n"] == 1.5
    assert migrated(valkey, "json") == {"existing": 3}


def test_what_has_gone_on_here_stays_and_what_has_gone_on_there_is_extended(app: Flask, valkey: Server) -> None:
    for name in ("here", "there", "both", "deleted"):
        by_hand(valkey, name, {"history": [HI], "n": 1})
    migrated(valkey, "json")
    with app.app_context():
        store_of(app).append("here", REPLY)
        store_of(app).append("both", {"role": "user", "content": "here"})
    by_hand(valkey, "there", {"history": [HI, REPLY], "n": 2})
    by_hand(valkey, "both", {"history": [HI, REPLY], "n": 2})
    assert migrated(valkey, "json", "--dry-run") == {"existing": 3, "extended": 1, "dry_run": True}
    assert migrated(valkey, "json") == {"existing": 3, "extended": 1}
    assert loaded(app, "here") == {"history": [HI, REPLY], "n": 1}
    assert loaded(app, "there") == {"history": [HI, REPLY], "n": 2}
    assert loaded(app, "both") == {"history": [HI, {"role": "user", "content": "here"}], "n": 1}
    assert migrated(valkey, "json") == {"existing": 4}


def test_a_dry_run_writes_nothing(app: Flask, valkey: Server) -> None:
    by_hand(valkey, "a", [HI])
    keys = sorted(valkey.client.scan_iter())
    assert migrated(valkey, "json", "--dry-run") == {"new": 1, "dry_run": True}
    assert sorted(valkey.client.scan_iter()) == keys
    assert "Nothing was written" in run(valkey.url, "migrate", "json", "--dry-run").stdout


def test_a_pattern_names_the_id_and_options_the_part(app: Flask, valkey: Server) -> None:
    value = {"chat": {"turns": [HI]}, "who": 7, "x": 1}
    valkey.client.set("user:u1:chat", json.dumps(value), ex=60)
    valkey.client.set("user:u2:other", b"[]", ex=60)
    valkey.client.set("user:u3:chat", b'{"y": 1}', ex=60)
    words = ["--pattern", "user:*:chat", "--field", "chat", "--history", "turns", "--owner-field", "who"]
    assert migrated(valkey, "json", *words) == {"new": 1, "empty": 1}
    assert loaded(app, "u1", owner="7") == {"turns": [HI]}
    assert "with one *" in run(valkey.url, "migrate", "json", "--pattern", "a", status=2).stderr


def test_what_cannot_be_read_is_told_and_the_rest_is_taken(app: Flask, valkey: Server) -> None:
    for name, value in {
        "bad": b"{",
        "number": b"7",
        "history": b'{"history": 3}',
        "x" * 300: b"[]",
        "good": b"[]",
    }.items():
        valkey.client.set(f"chat:session:{name}", value, ex=60)
    valkey.client.rpush("chat:session:list", "x")
    valkey.client.expire("chat:session:list", 60)
    done = run(valkey.url, "migrate", "json", "--json", status=1)
    assert (lines(done)[0]["new"], lines(done)[0]["failed"]) == (1, 4)
    assert {line.partition(":")[0] for line in done.stderr.splitlines()} == {"bad", "number", "history", "x" * 300}


# ---- pickles


def test_a_pickled_dict_is_read_without_running_anything(app: Flask, valkey: Server) -> None:
    value = OrderedDict(history=[HI], at=datetime(2026, 1, 2, tzinfo=UTC), more=defaultdict(list, a=[1]))
    for protocol in (2, 3, 4, 5):
        valkey.client.set(f"chat:session:p{protocol}", pickle.dumps(value, protocol), ex=60)
    assert migrated(valkey, "json") == {"new": 4}
    for protocol in (2, 3, 4, 5):
        found = loaded(app, f"p{protocol}")
        assert found == {"history": [HI], "at": "2026-01-02T00:00:00+00:00", "more": {"a": [1]}}


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/evil",)


def test_a_pickle_of_anything_else_is_refused(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    valkey.client.set("chat:session:evil", pickle.dumps({"a": Evil()}), ex=60)
    valkey.client.set("chat:session:object", pickle.dumps({"a": Flask}), ex=60)
    valkey.client.set("chat:session:torn", pickle.dumps({"a": 1})[:-3], ex=60)
    done = run(valkey.url, "migrate", "json", status=1)
    assert ran == []
    assert "which is no plain type and is not made" in done.stderr
    assert "3 failed" in done.stdout


# ---- lists


def test_lists_of_json_are_taken_over(app: Flask, valkey: Server) -> None:
    valkey.client.rpush("log:a", json.dumps(HI), json.dumps(REPLY))
    valkey.client.expire("log:a", 60)
    assert migrated(valkey, "list", "--pattern", "log:*", "--owner", "ada") == {"new": 1}
    assert loaded(app, "a", owner="ada") == {"history": [HI, REPLY]}
    valkey.client.rpush("log:a", json.dumps(HI))
    assert migrated(valkey, "list", "--pattern", "log:*", "--owner", "ada") == {"extended": 1}
    assert loaded(app, "a")["history"] == [HI, REPLY, HI]
    assert migrated(valkey, "list", "--pattern", "lo*", "--bare") == {"new": 1}
    assert loaded(app, "g:a") == [HI, REPLY, HI]


# ---- Flask-Session 0.8.0

PACKED = (
    b"\x8e\xaa_permanent\xc3\xa7history\x92\x82\xa4role\xa4user\xa7content\xa2hi\x82\xa4role\xa9assistant\xa7content\xd9P"
    + "é".encode() * 40
    + b"\xa1n\xfb\xa3big\xcf\x00\x00\x01\x00\x00\x00\x00\x00\xa1f\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa4none\xc0"
    + b"\xa1l\xdc\x00\x14"
    + bytes(range(20))
    + b"\xa8_flashes\x91\x92\xa1a\xa1b\xa2at\xd6\xffiW\n\x80\xa5naive\xb32026-01-02T00:00:00\xa3neg\xd1\xff8\xa2u8\xcc\xc8"
    + b"\xa3u16\xcd\xea`\xa1b\xc4\x01x"
)
"""A session as msgspec 0.23 packs it for Flask-Session."""
UNPACKED = {
    "history": [HI, {"role": "assistant", "content": "é" * 40}],
    "n": -5,
    "big": 2**40,
    "f": 1.5,
    "none": None,
    "l": list(range(20)),
    "at": datetime(2026, 1, 2, tzinfo=UTC),
    "naive": "2026-01-02T00:00:00",
    "neg": -200,
    "u8": 200,
    "u16": 60000,
    "b": b"x",
}


def test_message_pack_is_read() -> None:
    assert msgpack.decode(PACKED) == {"_permanent": True, **UNPACKED, "_flashes": [["a", "b"]]}
    assert msgpack.decode(b"\xd7\xff\x8f\r\x18\x00iW5\xa5") == datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
    for wrong in (b"", PACKED[:-1], PACKED + b"\xc0", b"\xc1", b"\x81\xc0", b"\xd4\x05x", b"\xa1\xff", b"\x91" * 300):
        with pytest.raises(ValueError, match="no MessagePack"):
            msgpack.decode(wrong)


def test_sessions_of_flask_session_are_taken_over(app: Flask, valkey: Server) -> None:
    plain = {name: value for name, value in UNPACKED.items() if name != "b"}
    valkey.client.set("session:packed", PACKED.replace(b"\x8e", b"\x8d", 1).removesuffix(b"\xa1b\xc4\x01x"), ex=60)
    valkey.client.set("session:json", json.dumps({"_permanent": True, "history": [HI]}), ex=60)
    valkey.client.set("session:pickle", pickle.dumps({"_permanent": True, "history": [HI], "_user_id": "7"}), ex=60)
    valkey.client.set("session:empty", b"\x81\xaa_permanent\xc3", ex=60)
    valkey.client.set("session:no", b"\xff\xff", ex=60)
    done = run(valkey.url, "migrate", "flask-session", "--json", status=1)
    counts = lines(done)[0]
    assert (counts["new"], counts["empty"], counts["failed"]) == (3, 1, 1)
    assert "no: its value is of another format" in done.stderr
    assert loaded(app, "packed") == {**plain, "at": "2026-01-02T00:00:00+00:00"}
    assert loaded(app, "json") == loaded(app, "pickle") == {"history": [HI]}


# ---- LangChain, as langchain-core 0.3.86 writes its messages

LANGCHAIN = Path(__file__).with_name("langchain.jsonl").read_text("utf-8").splitlines()
AS_OURS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    },
    {"role": "tool", "content": "42", "tool_call_id": "c1"},
    {"role": "user", "content": [{"type": "text", "text": "x"}]},
    {"role": "critic", "content": "c"},
]


def test_histories_of_langchain_community_are_taken_over(app: Flask, valkey: Server) -> None:
    for text in LANGCHAIN:
        valkey.client.lpush("message_store:a", text)
    valkey.client.expire("message_store:a", 60)
    valkey.client.rpush("message_store:not", "{}")
    valkey.client.expire("message_store:not", 60)
    done = run(valkey.url, "migrate", "langchain", "--json", status=1)
    assert lines(done)[0]["new"] == 1
    assert "no message of LangChain" in done.stderr
    session = loaded(app, "a")
    assert session == {"history": AS_OURS}
    assert [message.metadata for message in session.messages] == [
        None,
        {"langchain": {"id": "h1"}},
        {
            "langchain": {
                "response_metadata": {"model_name": "m"},
                "usage_metadata": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
            }
        },
        None,
        None,
        None,
    ]
    valkey.client.lpush("message_store:a", LANGCHAIN[1])
    assert "1 extended" in run(valkey.url, "migrate", "langchain", status=1).stdout
    assert len(loaded(app, "a")["history"]) == 7


class JsonServer:
    """A stand-in for a server with the JSON module, of which langchain-redis 0.2.4 makes use."""

    def __init__(self, documents: dict[str, Any]) -> None:
        self._documents = {key: json.dumps(value).encode() for key, value in documents.items()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as asked:
            while first := asked.readline():
                words = []
                for _ in range(int(first[1:])):
                    words.append(asked.read(int(asked.readline()[1:]) + 2)[:-2])
                client.sendall(self._answer([word.decode() for word in words]))

    def _answer(self, words: list[str]) -> bytes:
        if words[0] == "SCAN":
            keys = b"".join(b"$%d\r\n%b\r\n" % (len(key), key.encode()) for key in self._documents)
            return b"*2\r\n$1\r\n0\r\n*%d\r\n%b" % (len(self._documents), keys)
        if words[0] == "TYPE":
            return b"+ReJSON-RL\r\n"
        if words[0] == "JSON.GET":
            return b"$%d\r\n%b\r\n" % (len(self._documents[words[1]]), self._documents[words[1]])
        return b"+OK\r\n"

    def close(self) -> None:
        self._listener.close()


def test_histories_of_langchain_redis_are_taken_over(app: Flask, valkey: Server) -> None:
    def document(text: str, timestamp: float, kind: str = "human") -> dict[str, Any]:
        data = {"content": text, "additional_kwargs": {}, "type": kind}
        return {
            "type": kind,
            "message_id": f"01J{timestamp}",
            "data": data,
            "session_id": "s:1",
            "timestamp": timestamp,
        }

    other = JsonServer(
        {
            "chat:s:1:01J3": document("three", 3.5),
            "chat:s:1:01J1": document("one", 1.5),
            "chat:s:1:01J2": document("two", 2.5, "ai"),
            "chat:s2:01J9": document("alone", 9.0),
        }
    )
    assert migrated(valkey, "langchain-redis", "--from", other.url) == {"new": 2}
    other.close()
    assert [message["content"] for message in loaded(app, "s:1")["history"]] == ["one", "two", "three"]
    assert loaded(app, "s:1")["history"][1] == {"role": "assistant", "content": "two"}
    assert loaded(app, "s2") == {"history": [{"role": "user", "content": "alone"}]}


# ---- servers


@pytest.mark.server
def test_the_conversations_may_be_on_another_server_and_go_into_a_cluster(valkey: Server) -> None:
    with cluster() as found, running("valkey") as old:
        for number in range(30):
            old.client.set(f"chat:session:s{number}", json.dumps({"history": [HI], "n": number}), ex=60)
        words = ["migrate", "json", "--from", old.url, "--json"]
        assert lines(run(found.url, *words))[0]["new"] == 30
        assert lines(run(found.url, *words))[0]["existing"] == 30
        assert len(lines(run(found.url, "ls", "--all", "--json"))) == 30
        for server in found.primaries:
            server.client.flushall()
        for number in range(30):
            name = f"old:{number}"
            found.primary_of(key_slot(name.encode())).client.set(name, "[]", ex=60)
        assert lines(run(found.url, "migrate", "json", "--pattern", "old:*", "--json"))[0]["new"] == 30
    assert "--from" in run("memory://", "migrate", "json", status=2).stderr


@pytest.mark.server
def test_sessions_are_taken_over_while_an_app_serves(valkey: Server) -> None:
    """An app goes on with sessions in the midst of it. None of its messages is lost, and none comes twice."""
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url, CONVSTORE_FALLBACK="none")
    store = ConversationStore(app)
    texts = [{"role": "user", "content": f"old {number}"} for number in range(5)]
    for number in range(300):
        by_hand(valkey, f"s{number}", {"history": texts})
    is_over = threading.Event()
    told: dict[str, int] = {}

    def serve() -> None:
        number = 0
        with app.app_context():
            while not is_over.is_set():
                name = f"s{number % 300}"
                if store.exists(name):
                    store.append(name, {"role": "user", "content": f"new {told.get(name, 0)}"})
                    told[name] = told.get(name, 0) + 1
                number += 1

    serving = threading.Thread(target=serve)
    serving.start()
    for _ in range(4):
        migrated(valkey, "json")
    is_over.set()
    serving.join()
    assert told
    with app.app_context():
        for number in range(300):
            name = f"s{number}"
            new = [{"role": "user", "content": f"new {count}"} for count in range(told.get(name, 0))]
            assert store.get_session(name) == {"history": [*texts, *new]}
