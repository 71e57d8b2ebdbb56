"""Repeated requests, which have the effect and the answer of one, If-Match, and turns in progress."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_convstore import InvalidInput, Turn

from ..servers import Server
from ..service import Service, problem

KEY = {"Idempotency-Key": "7f0c1f7e-3d4b-4f43-9a35-6a4f1f2a9d10"}


def say(service: Service, session_id: str, content: Any = "hello", headers: dict[str, str] = KEY) -> TestResponse:
    return service.client.post(f"/sessions/{session_id}/messages", json={"content": content}, headers=headers)


def counting(service: Service, *fail: int) -> list[int]:
    """A handler that counts its calls, and fails at the given ones."""
    calls: list[int] = []

    @service.convstore.reply
    def reply(turn: Turn) -> str:
        calls.append(len(calls) + 1)
        if calls[-1] in fail:
            raise ValueError("no reply")
        return f"reply {calls[-1]} to {turn.message['content']}"

    return calls


# ---- continue


@pytest.mark.parametrize("handler", [True, False])
def test_a_repeated_message_gets_the_first_answer(service: Service, handler: bool) -> None:
    calls = counting(service) if handler else []
    session_id = service.start()
    first = say(service, session_id)
    assert first.status_code == 201
    service.say(session_id, "something else")
    with service.app.app_context():
        service.convstore.append(session_id, data={"changed": 1})
    for _ in range(2):
        again = say(service, session_id)
        assert (again.status_code, again.data, again.headers["ETag"]) == (201, first.data, first.headers["ETag"])
    assert len(calls) == (2 if handler else 0)
    assert service.get(session_id)["message_count"] == (4 if handler else 2)


def test_a_repeated_message_without_a_reply(service: Service) -> None:
    service.convstore.reply(lambda turn: None)
    session_id = service.start()
    first = say(service, session_id)
    assert first.get_json()["message"]["status"] == "unanswered"
    assert say(service, session_id).data == first.data


def test_another_body_under_the_same_key_is_422(service: Service) -> None:
    counting(service)
    session_id = service.start()
    say(service, session_id)
    found = problem(say(service, session_id, "another"), 422, "invalid")
    assert "token" in found["errors"]
    assert service.get(session_id)["message_count"] == 2


def test_the_same_key_in_another_session_is_another(service: Service) -> None:
    calls = counting(service)
    for _ in range(2):
        assert say(service, service.start()).status_code == 201
    assert len(calls) == 2


def test_while_the_first_still_runs(service: Service) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @service.convstore.reply
    def reply(turn: Turn) -> str:
        inside.set()
        assert go_on.wait(10)
        return "slow"

    session_id = service.start()
    answers: list[TestResponse] = []
    first = threading.Thread(target=lambda: answers.append(say(service, session_id)))
    first.start()
    assert inside.wait(10)
    for headers, is_stored in ((KEY, True), ({}, False)):
        response = service.app.test_client().post(
            f"/sessions/{session_id}/messages", json={"content": "hello"}, headers=headers
        )
        found = problem(response, 409, "turn-in-progress")
        assert found["written"] is is_stored
        assert 1 <= int(response.headers["Retry-After"]) <= 30
    go_on.set()
    first.join()
    assert say(service, session_id).data == answers[0].data
    assert service.get(session_id)["message_count"] == 2


def test_after_a_failure_the_handler_runs_again_on_the_stored_message(service: Service) -> None:
    calls = counting(service, 1)
    session_id = service.start()
    problem(say(service, session_id), 502, "reply-failed")
    [message] = service.get(session_id)["history"]
    assert message["status"] == "failed"
    answer = say(service, session_id).get_json()
    assert (answer["reply"]["content"], answer["message"]["seq"]) == ("reply 2 to hello", 1)
    assert "status" not in answer["message"]
    assert say(service, session_id).get_json() == answer
    assert len(calls) == 2
    assert [m["content"] for m in service.get(session_id)["history"]] == ["hello", "reply 2 to hello"]


def test_after_a_failure_that_others_wrote_behind(service: Service) -> None:
    calls = counting(service, 1)
    session_id = service.start()
    say(service, session_id)
    service.say(session_id, "something else")
    assert problem(say(service, session_id), 409, "turn-lost")["written"] is True
    assert len(calls) == 2
    assert service.get(session_id)["message_count"] == 3


def test_a_repeat_of_what_was_trimmed(url: str) -> None:
    service = Service(url, MAX_HISTORY=2, HISTORY_POLICY="trim")
    counting(service)
    session_id = service.start()
    first = say(service, session_id)
    service.say(session_id, "next")
    again = say(service, session_id)
    assert again.status_code == 201
    assert again.get_json() == {**first.get_json(), "message": None, "reply": None}


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_bad_keys(service: Service, key: str) -> None:
    for path in ("/sessions", f"/sessions/{service.start()}/messages"):
        found = problem(service.client.post(path, json={}, headers={"Idempotency-Key": key}), 422, "invalid")
        assert found["errors"]


# ---- start


@pytest.mark.parametrize("body", [{}, {"data": {"a": [1, None]}}, {"data": {"a": 1}, "message": {"content": "hi"}}])
@pytest.mark.parametrize("handler", [True, False])
def test_a_repeated_start_gets_the_first_answer(service: Service, body: Any, handler: bool) -> None:
    calls = counting(service) if handler else []
    first = service.client.post("/sessions", json=body, headers=KEY)
    session_id = service.json(first, 201)["session_id"]
    service.say(session_id, "later")
    with service.app.app_context():
        service.convstore.append(session_id, data={"a": "changed", "complete": True})
    again = service.client.post("/sessions", json=body, headers=KEY)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["ETag"] == first.headers["ETag"]
    assert len(calls) == (handler + ("message" in body and handler))
    problem(service.client.post("/sessions", json={"data": {"b": 1}}, headers=KEY), 422, "invalid")


def test_a_repeated_start_never_revives(service: Service) -> None:
    session_id = service.client.post("/sessions", headers=KEY).get_json()["session_id"]
    service.client.delete(f"/sessions/{session_id}")
    problem(service.client.post("/sessions", headers=KEY), 404, "not-found")
    problem(service.client.get(f"/sessions/{session_id}"), 404, "not-found")


def test_a_start_whose_handler_failed_is_repeatable(service: Service) -> None:
    calls = counting(service, 1)
    body = {"message": {"content": "hi"}}
    found = problem(service.client.post("/sessions", json=body, headers=KEY), 502, "reply-failed")
    first = service.client.post("/sessions", json=body, headers=KEY)
    session = service.json(first, 201)
    assert session["session_id"] == found["session_id"]
    assert [message["content"] for message in session["history"]] == ["hi", "reply 2 to hi"]
    assert service.client.post("/sessions", json=body, headers=KEY).data == first.data
    assert len(calls) == 2


def test_an_ownerless_start_key_is_a_uuid(service: Service) -> None:
    """The session's id is made from it: who can guess the key could guess the id."""
    problem(service.client.post("/sessions", headers={"Idempotency-Key": "order-1"}), 422, "invalid")
    ids = {
        service.json(service.client.post("/sessions", headers={"Idempotency-Key": str(uuid.uuid4())}), 201)[
            "session_id"
        ]
        for _ in range(3)
    }
    assert len(ids) == 3
    assert all(uuid.UUID(session_id).version == 4 for session_id in ids)


@pytest.mark.parametrize("key", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)], ids=["nil", "max"])
def test_no_start_key_is_the_same_for_strangers(service: Service, key: uuid.UUID) -> None:
    """Whoever sends the nil UUID would share a session with all others who do."""
    found = problem(service.client.post("/sessions", headers={"Idempotency-Key": str(key)}), 422, "invalid")
    assert found["written"] is False


def test_a_start_that_broke_off_says_what_is_written(url: str) -> None:
    service = Service(url, MAX_SESSION_BYTES=100)
    counting(service)
    found = problem(service.client.post("/sessions", json={"message": {"content": "x" * 200}}), 413, "too-large")
    assert found["written"] is True, "the session is there, empty"


def test_a_conflict_of_a_field_named_version_is_409(service: Service) -> None:
    @service.convstore.reply
    def reply(turn: Turn) -> str:
        turn.data["version"] = 1
        service.convstore.append(turn.session_id, data={"version": 2})
        return "x"

    session_id = service.start()
    etag = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    problem(say(service, session_id, headers={"If-Match": etag}), 409, "conflict")


def test_a_window_is_checked_when_the_handler_is_registered(service: Service) -> None:
    with pytest.raises(InvalidInput):
        service.convstore.reply(last=0)


def test_a_start_whose_message_is_too_large_starts_nothing(valkey: Server) -> None:
    service = Service(valkey.url, MAX_MESSAGE_BYTES=100)
    counting(service)
    problem(service.client.post("/sessions", json={"message": {"content": "x" * 200}}), 413, "too-large")
    assert not list(valkey.client.scan_iter())


# ---- If-Match


def test_if_match(service: Service) -> None:
    counting(service)
    session_id = service.start()
    etag = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    stale = '"1-1"'
    for header in (stale, f"W/{stale}", f'"2-2", {stale}', f'W/{stale}, "other"', '"nonsense"'):
        wrong = {"If-Match": header}
        for response in (
            say(service, session_id, headers=wrong),
            service.client.delete(f"/sessions/{session_id}", headers=wrong),
        ):
            assert problem(response, 412, "precondition-failed")["written"] is False
    problem(service.client.get(f"/sessions/{session_id}", headers={"If-Match": stale}), 412, "precondition-failed")
    assert service.client.get(f"/sessions/{session_id}", headers={"If-Match": etag}).status_code == 200
    response = say(service, session_id, headers={"If-Match": etag})
    assert response.status_code == 201
    newer = response.headers["ETag"]
    problem(say(service, session_id, headers={"If-Match": etag}), 412, "precondition-failed")
    assert say(service, session_id, headers={"If-Match": "*"}).status_code == 201
    problem(service.client.delete(f"/sessions/{session_id}", headers={"If-Match": newer}), 412, "precondition-failed")
    latest = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    assert service.client.delete(f"/sessions/{session_id}", headers={"If-Match": latest}).status_code == 200


def test_if_match_of_several_states(service: Service) -> None:
    """RFC 9110: it holds if any of them is the session's."""
    counting(service)
    session_id = service.start()
    path = f"/sessions/{session_id}"
    stale = '"1-1"'
    changes: list[Any] = [
        lambda headers: service.client.patch(path, json={"title": "T"}, headers=headers),
        lambda headers: say(service, session_id, headers=headers),
        lambda headers: service.client.patch(f"{path}/messages/1", json={"content": "edited"}, headers=headers),
        lambda headers: service.client.delete(f"{path}/messages/1", headers=headers),
        lambda headers: service.client.delete(path, headers=headers),
    ]
    for change in changes:
        state = service.client.get(path).headers["ETag"]
        problem(change({"If-Match": f'{stale}, "2-2"'}), 412, "precondition-failed")
        assert change({"If-Match": f'{stale}, "other", W/"weak", {state}'}).status_code in (200, 201)
    problem(service.client.patch(path, json={}, headers={"If-Match": f'{stale}, "2-2"'}), 404, "not-found")


# ---- turns over HTTP


def test_what_became_of_the_last_turn(url: str) -> None:
    service = Service(url, TURN_POLICY="supersede")
    counting(service)
    session_id = service.start()
    with service.app.app_context():
        service.convstore.turn(session_id, {"role": "user", "content": "lost"})  # and never ended
    response = say(service, session_id)
    answer = service.json(response, 201)
    assert (answer["previous"]["content"], answer["previous"]["status"]) == ("lost", "superseded")
    assert say(service, session_id).data == response.data
    history = service.get(session_id)["history"]
    assert [message.get("status") for message in history] == ["superseded", None, None]


def test_a_late_reply_is_409(url: str) -> None:
    service = Service(url, TURN_POLICY="supersede")

    @service.convstore.reply
    def reply(turn: Turn) -> str:
        if turn.message["content"] == "slow":
            say(service, turn.session_id, "fast", headers={})
        return f"re: {turn.message['content']}"

    session_id = service.start()
    found = problem(say(service, session_id, "slow"), 409, "turn-lost")
    assert found["written"] is True, "the message is stored, the reply is not"
    assert [m["content"] for m in service.get(session_id)["history"]] == ["slow", "fast", "re: fast"]
