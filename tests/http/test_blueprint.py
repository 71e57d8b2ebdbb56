"""The HTTP surface: routes, statuses, headers, and that a refused request leaves nothing behind."""

from __future__ import annotations

import io
import json
import logging
import re
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask, abort, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import flask_convstore
from flask_convstore import ConversationStore, ConvstoreError, CorruptValue, Message, Turn
from flask_convstore.domain.clock import as_milliseconds, wall_seconds
from flask_convstore.errors import StoreMisconfigured

from ..clocks import Moment
from ..servers import Server
from ..service import OwnedService, Service, in_memory, problem

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# ---- start


def test_start(service: Service) -> None:
    response = service.client.post("/sessions")
    session = service.json(response, 201)
    session_id = session["session_id"]
    assert uuid.UUID(session_id).version == 4
    assert session == {
        "session_id": session_id,
        "version": 1,
        "created_at": session["created_at"],
        "updated_at": session["created_at"],
        "expires_at": session["expires_at"],
        "message_count": 0,
        "title": None,
        "data": {},
        "history": [],
    }
    assert RFC3339.fullmatch(session["created_at"])
    lifetime = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created_at"])
    assert lifetime == timedelta(hours=1)
    assert response.headers["Location"] == f"/sessions/{session_id}"
    created_ms = round(datetime.fromisoformat(session["created_at"]).timestamp() * 1000)
    assert response.headers["ETag"] == f'"{created_ms}-1"'
    assert response.headers["Convstore-Expires-At"] == session["expires_at"]
    got = service.get(session_id)
    assert {**got, "expires_at": None} == {**session, "expires_at": None}


def test_start_with_data_and_message(service: Service) -> None:
    body = {"data": {"name": "Ada", "deep": {"n": [1, None]}}, "message": {"content": "hi", "metadata": {"lang": "en"}}}
    session = service.json(service.client.post("/sessions", json=body), 201)
    [message] = session["history"]
    assert session["data"] == body["data"]
    assert (session["version"], session["message_count"]) == (1, 1)
    assert message == {
        "id": "msg-1",
        "seq": 1,
        "role": "user",
        "content": "hi",
        "created_at": message["created_at"],
        "metadata": {"lang": "en"},
    }
    assert service.get(session["session_id"])["history"] == [message]


def test_start_with_a_message_runs_the_handler(service: Service) -> None:
    @service.convstore.reply
    def reply(turn: Turn) -> str:
        service.convstore.append(turn.session_id, data={"seen": True})
        return f"{turn.data['name']} said {turn.message['content']}"

    response = service.client.post("/sessions", json={"data": {"name": "Ada"}, "message": {"content": "hi"}})
    session = service.json(response, 201)
    assert [message["content"] for message in session["history"]] == ["hi", "Ada said hi"]
    assert session["data"] == {"name": "Ada", "seen": True}
    assert session["version"] == 4, "created, begun, the handler's own write, committed"
    assert response.headers["ETag"].endswith('-4"')


def test_ids_are_not_guessable(service: Service) -> None:
    assert len({service.start() for _ in range(20)}) == 20


# ---- continue


def test_continue_without_a_handler(service: Service) -> None:
    session_id = service.start()
    response = service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"})
    turn = service.json(response, 201)
    assert turn == {
        "session_id": session_id,
        "version": 2,
        "message": {
            "id": "msg-1",
            "seq": 1,
            "role": "user",
            "content": "hi",
            "created_at": turn["message"]["created_at"],
        },
        "reply": None,
    }
    assert response.headers["ETag"].endswith('-2"')
    assert RFC3339.fullmatch(response.headers["Convstore-Expires-At"])
    assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ("a text", {"role": "assistant", "content": "a text"}),
        ({"content": "a dict"}, {"role": "assistant", "content": "a dict"}),
        ({"role": "tool", "content": None, "calls": [1]}, {"role": "tool", "content": None, "calls": [1]}),
        (range(3), {"role": "assistant", "content": "0;1;2;"}),
    ],
)
def test_continue_stores_the_reply(service: Service, given: Any, body: dict[str, Any]) -> None:
    service.convstore.reply(lambda turn: (f"{n};" for n in given) if isinstance(given, range) else given)
    session_id = service.start()
    turn = service.say(session_id)
    reply = turn["reply"]
    assert {key: reply[key] for key in body} == body
    assert (turn["version"], reply["seq"], reply["id"]) == (3, 2, "msg-2")
    assert service.get(session_id)["history"] == [turn["message"], reply]
    with service.app.app_context():
        session = service.convstore.get_session(session_id)
        assert session == {"history": [{"role": "user", "content": "hello"}, body]}


def test_a_reply_with_metadata(service: Service) -> None:
    service.convstore.reply(lambda turn: Message("plain text body", {"tokens": 5}))
    session_id = service.start()
    reply = service.say(session_id)["reply"]
    assert (reply["content"], reply["metadata"]) == ("plain text body", {"tokens": 5})
    assert service.get(session_id)["history"][1] == reply


def test_the_handler_sees_the_history_up_to_the_new_message(service: Service) -> None:
    seen: list[Any] = []

    @service.convstore.reply()
    def reply(turn: Turn) -> str:
        with service.app.app_context():  # somebody else writes before the handler looks
            service.convstore.append(turn.session_id, {"role": "user", "content": "later"})
        seen.append((turn.session_id, turn.message.seq, turn.history, turn.data))
        return "ok"

    session_id = service.start(data={"k": 1})
    service.say(session_id, "one")
    user = {"role": "user", "content": "one"}
    assert seen == [(session_id, 1, [user], {"k": 1})]


def test_a_failing_handler_is_502_and_the_message_stays(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    @service.convstore.reply
    def reply(turn: Turn) -> str:
        raise ValueError("internal secret")

    session_id = service.start()
    response = service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"})
    found = problem(response, 502, "reply-failed")
    assert found["written"] is True
    assert "secret" not in response.text
    assert "ValueError" in caplog.text
    service.convstore.reply(lambda turn: "fine")
    service.say(session_id, "again")
    assert [message["content"] for message in service.get(session_id)["history"]] == ["hi", "again", "fine"]


def test_a_start_whose_handler_fails_tells_the_id(service: Service) -> None:
    service.convstore.reply(lambda turn: str(1 / 0))
    found = problem(service.client.post("/sessions", json={"message": {"content": "hi"}}), 502, "reply-failed")
    assert [message["content"] for message in service.get(found["session_id"])["history"]] == ["hi"]


def test_a_hidden_reply_is_not_shown(service: Service) -> None:
    service.convstore.reply(lambda turn: {"role": "system", "content": "HIDDEN"})
    session_id = service.start()
    assert service.say(session_id)["reply"] is None
    assert service.get(session_id)["message_count"] == 2


def test_a_history_trimmed_by_the_handler(service: Service) -> None:
    @service.convstore.reply
    def reply(turn: Turn) -> str:
        session = service.convstore.get_session(turn.session_id)
        assert isinstance(session, dict)
        service.convstore.append(turn.session_id, *(Message(f"later{number}") for number in range(12)))
        service.convstore.append(turn.session_id, Message("last"))
        latest = service.convstore.get_session(turn.session_id)
        assert isinstance(latest, dict)
        latest["history"] = latest["history"][-11:]
        service.convstore.save_session(turn.session_id, latest)
        return str(turn.history)

    assert service.say(service.start())["reply"]["content"] == "[{'role': 'user', 'content': 'hello'}]"


@pytest.mark.parametrize("given", [5, ["x"], {"content": object()}, {"content": "\ud800"}, object()])
def test_what_is_no_reply_is_502(service: Service, given: Any) -> None:
    service.convstore.reply(lambda turn: given)
    session_id = service.start()
    problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}), 502, "reply-failed")
    assert service.get(session_id)["message_count"] == 1


def test_a_handler_may_abort(service: Service) -> None:
    service.convstore.reply(lambda turn: abort(429))
    session_id = service.start()
    assert service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}).status_code == 429


def test_multimodal_content(service: Service) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    session_id = service.start()
    assert service.say(session_id, parts)["message"]["content"] == parts


def test_a_session_deleted_by_its_handler_is_404(service: Service) -> None:
    @service.convstore.reply
    def reply(turn: Turn) -> str:
        service.convstore.delete_session(turn.session_id)
        return "too late"

    session_id = service.start()
    found = problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}), 404, "not-found")
    assert found["written"] is True, "the message was stored"
    problem(service.client.get(f"/sessions/{session_id}"), 404, "not-found")


# ---- get


def test_get_the_last_messages(service: Service) -> None:
    session_id = service.start()
    for number in range(5):
        service.say(session_id, str(number))
    session = service.get(session_id, "?last=2")
    assert [(message["seq"], message["content"]) for message in session["history"]] == [(4, "3"), (5, "4")]
    assert session["message_count"] == 5
    assert service.get(session_id, "?last=0")["history"] == []
    assert len(service.get(session_id, "?last=99999999999999999999")["history"]) == 5
    for bad in ("-1", "x", "1.5", ""):
        found = problem(service.client.get(f"/sessions/{session_id}?last={bad}"), 422, "invalid")
        assert "last" in found["errors"]


def test_get_304(service: Service) -> None:
    session_id = service.start()
    first = service.client.get(f"/sessions/{session_id}")
    etag = first.headers["ETag"]
    for header in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        response = service.client.get(f"/sessions/{session_id}", headers={"If-None-Match": header})
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == etag
        assert RFC3339.fullmatch(response.headers["Convstore-Expires-At"])
    service.say(session_id)
    response = service.client.get(f"/sessions/{session_id}", headers={"If-None-Match": etag})
    assert response.status_code == 200
    assert response.headers["ETag"] != etag


def test_every_interaction_moves_the_lifetime(valkey: Server) -> None:
    service = Service(valkey.url)
    session_id = service.start()
    key = f"chat:session:{{{session_id}}}"
    etag = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    for call in (
        lambda: service.get(session_id),
        lambda: service.client.get(f"/sessions/{session_id}", headers={"If-None-Match": etag}),
        lambda: service.say(session_id),
    ):
        valkey.client.pexpire(key, 5_000)
        with valkey.moment() as moment:
            call()
        assert valkey.end_of(key) - 3_600_000 in moment


def test_what_python_saved_is_served(service: Service) -> None:
    with service.app.app_context():
        service.convstore.save_session(
            "dict", {"name": "Ada", "history": [{"role": "assistant", "content": "x", "id": "own"}]}
        )
        service.convstore.save_session("list", [{"role": "user", "parts": [1]}, "User: hi", None])
        service.convstore.save_session("data", {"complete": True})
    shown = service.get("dict")
    assert (shown["data"], shown["history"][0]["id"], shown["history"][0]["content"]) == ({"name": "Ada"}, "msg-1", "x")
    shown = service.get("list")
    assert shown["data"] == {}
    assert shown["history"][0]["parts"] == [1]
    assert [message["content"] for message in shown["history"][1:]] == ["User: hi", None]
    with Moment(lambda: int(1000 * wall_seconds())) as moment:  # the server has the clock of this machine
        shown = service.get("data")
    assert (shown["data"], shown["history"]) == ({"complete": True}, [])
    began = as_milliseconds(datetime.fromisoformat(shown["expires_at"])) - 24 * 3_600_000
    # The clock of a process is that of its host to the millisecond.
    assert moment.began - 1 <= began <= moment.ended + 1


def test_hidden_roles_are_not_served(service: Service) -> None:
    with service.app.app_context():
        history = [{"role": role, "content": role} for role in ("system", "user", "assistant", "tool", "developer")]
        service.convstore.save_session("s", {"history": history})
    assert [message["role"] for message in service.get("s")["history"]] == ["user", "assistant", "tool"]


# ---- delete, health


def test_delete(service: Service) -> None:
    session_id = service.start()
    response = service.client.delete(f"/sessions/{session_id}")
    assert service.json(response, 200) == {"status": "deleted"}
    for method in ("GET", "DELETE"):
        problem(service.client.open(f"/sessions/{session_id}", method=method), 404, "not-found")
    problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": "x"}), 404, "not-found")


def test_health(service: Service) -> None:
    health = service.json(service.client.get("/sessions/health"), 200)
    assert set(health) == {"connected", "latency_ms", "degraded", "pending"}
    assert (health["connected"], health["degraded"], health["pending"]) == (True, False, 0)


def test_without_a_server() -> None:
    service = Service("redis://127.0.0.1:1/0", RETRIES=0, FALLBACK="none")
    response = service.client.get("/sessions/health")
    assert service.json(response, 503) == {"connected": False, "latency_ms": None, "degraded": False, "pending": 0}
    for call in (
        lambda: service.client.get("/sessions/s"),
        lambda: service.client.post("/sessions"),
        lambda: service.client.delete("/sessions/s"),
        lambda: service.client.post("/sessions/s/messages", json={"content": "x"}),
    ):
        response = call()  # type: ignore[no-untyped-call]
        found = problem(response, 503, "unavailable")
        assert found["written"] is False  # nobody was there
        assert int(response.headers["Retry-After"]) >= 1
        assert "127.0.0.1" not in response.text


# ---- bad input


@pytest.mark.parametrize("session_id", ["none", "x" * 201, "a%00b", "%F0%9F%8E%89"])
def test_an_unknown_session_is_404_whatever_its_id(service: Service, session_id: str) -> None:
    same = service.client.get("/sessions/unknown").data
    for response in (
        service.client.get(f"/sessions/{session_id}"),
        service.client.delete(f"/sessions/{session_id}"),
        service.client.post(f"/sessions/{session_id}/messages", json={"content": "x"}),
    ):
        problem(response, 404, "not-found")
        assert response.data == same


DEEP = '{"content":"x","metadata":{"a":%s}}'

BAD_MESSAGES: list[tuple[str, bytes | str, int, str, str | None]] = [
    ("broken", "{", 400, "bad-json", None),
    ("no JSON", "content=hi", 400, "bad-json", None),
    ("not UTF-8", b'{"content":"\xff"}', 400, "bad-json", None),
    ("NaN", '{"content":"x","metadata":{"a":NaN}}', 400, "bad-json", None),
    ("Infinity", '{"content":"x","metadata":{"a":-Infinity}}', 400, "bad-json", None),
    ("empty", "", 422, "invalid", "content"),
    ("null", "null", 422, "invalid", "body"),
    ("a list", "[]", 422, "invalid", "body"),
    ("a text", '"hi"', 422, "invalid", "body"),
    ("no content", "{}", 422, "invalid", "content"),
    ("null content", '{"content":null}', 422, "invalid", "content"),
    ("a number", '{"content":5}', 422, "invalid", "content"),
    ("an object", '{"content":{"text":"x"}}', 422, "invalid", "content"),
    ("no parts", '{"content":[]}', 422, "invalid", "content"),
    ("untyped parts", '{"content":[{"text":"x"}]}', 422, "invalid", "content"),
    ("unknown key", '{"content":"x","colour":"red"}', 422, "invalid", "colour"),
    ("another role", '{"content":"x","role":"system"}', 422, "invalid", "role"),
    ("a bad role", '{"content":"x","role":1}', 422, "invalid", "role"),
    ("bad metadata", '{"content":"x","metadata":[1]}', 422, "invalid", "metadata"),
    ("lone surrogate", '{"content":"\\ud800"}', 422, "invalid", "content"),
    ("lone surrogate deep", '{"content":"x","metadata":{"a":["\\udc00"]}}', 422, "invalid", "metadata.a[0]"),
    ("lone surrogate key", '{"content":"x","metadata":{"\\udc00":1}}', 422, "invalid", "metadata"),
    ("large integer", '{"content":"x","metadata":{"n":18446744073709551616}}', 422, "invalid", "metadata.n"),
    ("small integer", '{"content":"x","metadata":{"n":-9223372036854775809}}', 422, "invalid", "metadata.n"),
    ("huge integer", '{"content":"x","metadata":{"n":' + "9" * 10_000 + "}}", 422, "invalid", "metadata.n"),
    ("huge float", '{"content":"x","metadata":{"n":1e999}}', 422, "invalid", "metadata.n"),
    ("too deep", DEEP % ("[" * 200 + "]" * 200), 400, "too-deep", None),
    ("far too deep", DEEP % ("[" * 20_000 + "]" * 20_000), 400, "bad-json", None),
    ("unclosed deep", "[" * 20_000, 400, "bad-json", None),
    ("too large", json.dumps({"content": "x" * 2_000}), 413, "too-large", None),
    ("metadata too large", json.dumps({"content": "x", "metadata": {"a": "x" * 2_000}}), 413, "too-large", None),
    ("far too large", json.dumps({"content": "x" * 500_000}), 413, "too-large", None),
]


@in_memory
@pytest.mark.parametrize(
    ("body", "status", "slug", "field"), [row[1:] for row in BAD_MESSAGES], ids=[row[0] for row in BAD_MESSAGES]
)
def test_bad_messages_are_refused_and_nothing_is_written(
    url: str, body: bytes | str, status: int, slug: str, field: str | None
) -> None:
    service = Service(url, MAX_MESSAGE_BYTES=1000, MAX_DATA_BYTES=1000)
    session_id = service.start()
    before = service.get(session_id)
    path = f"/sessions/{session_id}/messages"
    found = problem(service.client.post(path, data=body, content_type="application/json"), status, slug)
    assert found["written"] is False
    if field:
        assert field in found["errors"], found
    if slug == "too-large":
        assert found["size"] > found["limit"]
    after = service.get(session_id)
    assert {**after, "expires_at": 0} == {**before, "expires_at": 0}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"data": []}, 422, "data"),
        ({"data": None}, 422, "data"),
        ({"data": {"history": []}}, 422, "data.history"),
        ({"data": {"n": 2**64}}, 422, "data.n"),
        ({"message": "hi"}, 422, "message"),
        ({"message": {}}, 422, "message.content"),
        ({"message": {"content": "x", "role": "assistant"}}, 422, "message.role"),
        ({"message": {"content": "x", "y": 1}}, 422, "message.y"),
        ({"ttl": 5}, 422, "ttl"),
        ({"session_id": "mine"}, 422, "session_id"),
        ({"data": {"a": "x" * 2000}}, 413, None),
        ({"data": {"a": 1}, "message": {"content": "x" * 2000}}, 413, None),
    ],
)
def test_a_bad_start_starts_nothing(valkey: Server, body: Any, status: int, field: str | None) -> None:
    service = Service(valkey.url, MAX_MESSAGE_BYTES=1000, MAX_DATA_BYTES=1000)
    found = problem(service.client.post("/sessions", json=body), status, "invalid" if status == 422 else "too-large")
    if field:
        assert field in found["errors"]
    assert not list(valkey.client.scan_iter())


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_wrong_content_type_is_415(service: Service, content_type: str | None) -> None:
    for path in ("/sessions", f"/sessions/{service.start()}/messages"):
        response = service.client.post(path, data='{"content":"x"}', content_type=content_type)
        problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.app+json"])
def test_other_names_of_json(service: Service, content_type: str) -> None:
    path = f"/sessions/{service.start()}/messages"
    assert service.client.post(path, data='{"content":"x"}', content_type=content_type).status_code == 201


def test_the_hosts_own_limit_holds_if_it_is_less(url: str) -> None:
    service = Service(url)
    service.app.config["MAX_CONTENT_LENGTH"] = 100
    found = problem(service.client.post("/sessions", json={"data": {"a": "x" * 200}}), 413, "too-large")
    assert found["limit"] == 100


def chunked(client: FlaskClient, path: str, body: bytes, **more: Any) -> TestResponse:
    """A POST of a body that does not tell its length, as a server hands it over."""
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return client.post(path, environ_overrides=environ, content_type="application/json", **more)


def test_a_body_in_chunks_is_bounded_too(url: str) -> None:
    """Only its beginning is read: that must not be taken for the whole."""
    service = Service(url)
    service.app.config["MAX_CONTENT_LENGTH"] = 100
    body = b'{"data": {"a": 1}}'
    assert service.json(chunked(service.client, "/sessions", body), 201)["data"] == {"a": 1}
    assert service.json(chunked(service.client, "/sessions", body.ljust(99)), 201)["data"] == {"a": 1}
    assert service.json(chunked(service.client, "/sessions", b""), 201)["data"] == {}
    for longer in (body.ljust(101) + b"no JSON", b'{"data": {"a": "' + b"x" * 200 + b'"}}'):
        found = problem(chunked(service.client, "/sessions", longer), 413, "too-large")
        assert (found["limit"], found["written"]) == (100, False)


class Broken(io.RawIOBase):
    """A body that its client never ends."""

    error: Exception

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError("the client has gone"), RuntimeError("the chunks are none")])
@pytest.mark.parametrize("length", [None, "20"])
def test_a_body_without_an_end_is_a_problem(
    url: str, length: str | None, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Each server has its own errors for that. One of an unknown kind may be a bug, and is logged."""
    body = Broken()
    body.error = error
    environ: dict[str, Any] = {"wsgi.input": body}
    environ |= (
        {"CONTENT_LENGTH": length} if length else {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    )
    client = Service(url).client
    found = client.post("/sessions", environ_overrides=environ, content_type="application/json")
    assert problem(found, 400, "bad-json")["written"] is False
    assert ("the chunks are none" in caplog.text) == isinstance(error, RuntimeError)


@pytest.mark.parametrize("path", ["/sessions", "/sessions/import"])
def test_a_part_of_a_body_is_not_taken_for_the_whole(url: str, path: str) -> None:
    """gunicorn gives what has come. The lines of an import that are there would be imported, as if these were all."""
    service = OwnedService(url)
    for text in (b"{}\n", b""):
        environ = {"wsgi.input": io.BytesIO(text), "wsgi.input_terminated": True, "CONTENT_LENGTH": "50"}
        found = service.call(
            "alice", "POST", path.removeprefix("/sessions"), environ_overrides=environ, content_type="application/json"
        )
        assert problem(found, 400, "bad-json")["written"] is False


def test_a_length_beyond_all_numbers_is_too_large(url: str) -> None:
    environ = {"CONTENT_LENGTH": "9" * 30}
    client = Service(url).client
    found = client.post("/sessions", environ_overrides=environ, content_type="application/json")
    assert problem(found, 413, "too-large")["size"] == 2**53


def test_a_number_of_a_message_has_one_form(url: str) -> None:
    service = Service(url)
    session_id = service.start(message={"content": "x"})
    for seq in ("01", "+1", "1.0", "%D9%A1", "1%20"):
        problem(service.client.delete(f"/sessions/{session_id}/messages/{seq}"), 404, "not-found")


# ---- what clients may do


def test_client_data(url: str) -> None:
    assert problem(Service(url, CLIENT_DATA=False).client.post("/sessions", json={"data": {"a": 1}}), 422, "invalid")
    service = Service(url, CLIENT_DATA="a,b")
    assert service.start(data={"a": 1})
    found = problem(service.client.post("/sessions", json={"data": {"a": 1, "c": 2}}), 422, "invalid")
    assert set(found["errors"]) == {"data.c"}


def test_the_first_role_is_the_default(url: str) -> None:
    service = Service(url, CLIENT_ROLES=["customer"], VISIBLE_ROLES=["customer"])
    assert service.say(service.start())["message"]["role"] == "customer"


def test_a_body_that_the_host_has_read_is_not_taken_for_none(service: Service) -> None:
    service.app.before_request(lambda: request.form and None)
    response = service.client.post("/sessions", data={"message": "hi"})
    problem(response, 415, "unsupported-media-type")


def test_client_ttl(url: str) -> None:
    service = Service(url, CLIENT_TTL=True, MAX_TTL=1000)
    session = service.json(service.client.post("/sessions", json={"ttl": 60}), 201)
    lifetime = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created_at"])
    assert lifetime == timedelta(seconds=60)
    for bad in (0, 1001, "60", True):
        found = problem(service.client.post("/sessions", json={"ttl": bad}), 422, "invalid")
        assert "ttl" in found["errors"]


def test_client_roles(url: str) -> None:
    service = Service(url, CLIENT_ROLES=["user", "system"], VISIBLE_ROLES=["system"])
    session_id = service.start()
    service.say(session_id, "a", role="system")
    service.say(session_id, "b")
    assert [message["content"] for message in service.get(session_id)["history"]] == ["a"]


def test_a_body_cannot_look_like_an_envelope(service: Service) -> None:
    """A status, an edit or a cost in a body would pass for the server's own."""
    body = {
        "role": "user",
        "content": "x",
        "id": "msg-9",
        "seq": 9,
        "created_at": "never",
        "edited_at": "never",
        "status": "redacted",
        "tokens": {"input": 9, "output": 9},
        "metadata": {"a": 1},
        "own": True,
    }
    with service.app.app_context():
        service.convstore.save_session("s", {"history": [body, {**body, "metadata": "no object"}]})
        service.convstore.append("s", Message(body, metadata={"b": 2}))
    first, second, third = service.get("s")["history"]
    assert first == {
        "id": "msg-1",
        "seq": 1,
        "role": "user",
        "content": "x",
        "created_at": first["created_at"],
        "metadata": {"a": 1},
        "own": True,
    }
    assert RFC3339.fullmatch(first["created_at"])
    assert "metadata" not in second
    assert third["metadata"] == {"b": 2}


def test_completing_a_session_needs_the_right_to_a_lifetime(url: str) -> None:
    """A client could keep sessions for a day instead of an hour."""
    refused = Service(url)
    session_id = refused.start()
    for method, path in (("POST", ""), ("PATCH", f"/{session_id}")):
        for value in (True, False, None):
            response = refused.client.open(f"/sessions{path}", method=method, json={"data": {"complete": value}})
            assert set(problem(response, 422, "invalid")["errors"]) == {"data.complete"}
    allowed: list[dict[str, Any]] = [{"CLIENT_TTL": True}, {"CLIENT_DATA": ["complete"]}]
    for config in allowed:
        session_id = Service(url, **config).start(data={"complete": True})
    other = Service(url, CLIENT_DATA=["name"], CLIENT_TTL=True)
    problem(other.client.post("/sessions", json={"data": {"complete": True}}), 422, "invalid")


def test_no_title_of_a_message_that_is_hidden(url: str) -> None:
    service = Service(url, VISIBLE_ROLES=["assistant"])
    shown = service.json(service.client.post("/sessions", json={"message": {"content": "PRIVATE"}}), 201)
    session_id = shown["session_id"]
    assert shown["title"] is None
    service.say(session_id, "PRIVATE")
    service.convstore.reply(lambda turn: "ok")
    service.say(session_id, "PRIVATE")
    with service.app.app_context():
        convstore = service.convstore
        convstore.save_session("saved", {"history": [{"role": "user", "content": "PRIVATE"}]})
        convstore.save_session("merged", {"history": []})["history"].append({"role": "user", "content": "PRIVATE"})
        session = convstore.get_session("merged")
        assert session is not None
        session["history"].append({"role": "user", "content": "PRIVATE"})
        convstore.save_session("merged", session)
    for name in (session_id, "saved", "merged"):
        assert service.get(name)["title"] is None
    assert service.json(service.client.patch(f"/sessions/{session_id}", json={"title": "set"}), 200)["title"] == "set"


PROMPT = {"role": "system", "content": "PROMPT"}


@pytest.mark.parametrize("visible", [["user", "assistant"], ["user", "assistant", "system"]])
def test_clients_cannot_take_the_prompt_away(url: str, visible: list[str]) -> None:
    """A fork of nothing and a compaction that keeps nothing left a model without its instructions."""
    service = Service(url, VISIBLE_ROLES=visible)
    talk = [PROMPT, {"role": "note", "content": "y"}, {"role": "user", "content": "hi"}, {**PROMPT, "content": "late"}]
    with service.app.app_context():
        service.convstore.save_session("s", {"history": talk})

    def made(path: str, body: Any) -> Any:
        made = service.json(service.client.post(f"/sessions/s/{path}", json=body), 201)
        with service.app.app_context():
            session = service.convstore.get_session(made["session_id"])
        assert isinstance(session, dict)
        return session["history"]

    summary = {"role": "user", "content": "so far"}
    assert made("fork", {"seq": 0}) == made("fork", {"seq": 1}) == talk[:2]
    assert made("fork", {"seq": 3}) == talk[:3]
    assert made("fork", {}) == talk
    assert made("compact", {"summary": "so far", "keep": 0}) == [*talk[:2], summary]


def test_clients_who_may_write_prompts_may_drop_them(url: str) -> None:
    service = Service(url, CLIENT_ROLES=["user", "system"])
    with service.app.app_context():
        service.convstore.save_session("s", {"history": [PROMPT, {"role": "assistant", "content": "hello"}]})
    forked = service.json(service.client.post("/sessions/s/fork", json={"seq": 0}), 201)
    assert forked["message_count"] == 0
    compacted = service.json(service.client.post("/sessions/s/compact", json={"summary": "x", "keep": 1}), 201)
    assert compacted["message_count"] == 2


# ---- errors that are not the client's, and manners


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (CorruptValue("chat:session:{secret}", "broken"), 500, "corrupt"),
        (StoreMisconfigured("WRONGPASS secret"), 503, "misconfigured"),
    ],
)
def test_internals_are_logged_not_shown(
    error: Exception, status: int, slug: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("memory://")
    with service.app.app_context():

        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(service.convstore._access().backend.store, "load", fail)
    with caplog.at_level(logging.ERROR):
        response = service.client.get("/sessions/s")
    problem(response, status, slug)
    assert ("Retry-After" in response.headers) == (status == 503)
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_no_message_text_in_a_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        session_id = service.start(data={"name": "PRIVATE"}, message={"content": "PRIVATE"})
        service.say(session_id, "PRIVATE")
        service.client.post(f"/sessions/{session_id}/messages", json={"content": 5, "PRIVATE": 1})
        service.get(session_id)
    assert "PRIVATE" not in caplog.text


def test_the_hosts_error_handlers_stay_the_hosts(service: Service) -> None:
    app = service.app
    app.register_error_handler(404, lambda error: ("host 404", 404))
    app.register_error_handler(Exception, lambda error: ("host error", 500))
    app.add_url_rule("/boom", view_func=lambda: str(1 / 0))
    client = service.client
    assert client.get("/nowhere").text == "host 404"
    assert client.get("/boom").text == "host error"
    assert client.get("/sessions/").text == "host 404", "routing is the host's"
    problem(client.get("/sessions/none"), 404, "not-found")
    problem(client.post("/sessions", data="{", content_type="application/json"), 400, "bad-json")


def test_the_hosts_routes_can_answer_with_problems_too(service: Service) -> None:
    service.app.register_error_handler(ConvstoreError, flask_convstore.problem)
    service.app.add_url_rule("/own", view_func=lambda: str(service.convstore.append("none", Message("x"))))
    problem(service.client.get("/own"), 404, "not-found")


def test_a_prefix_of_ones_own() -> None:
    app = Flask("app")
    app.config["CONVSTORE_URL"] = "memory://"
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint, url_prefix="/api/v1/chats")
    response = app.test_client().post("/api/v1/chats")
    assert response.headers["Location"].startswith("/api/v1/chats/")
    assert app.test_client().get(response.headers["Location"]).status_code == 200
    assert {rule.endpoint for rule in app.url_map.iter_rules()} >= {
        "convstore.start_session",
        "convstore.continue_session",
        "convstore.get_session",
        "convstore.delete_session",
    }
