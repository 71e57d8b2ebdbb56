"""The routes of streamed replies: what comes over the wire, as docs/streaming.md says."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_convstore import Part, Turn

from ..processes import wait_for
from ..service import OwnedService, Service, problem

EVENTS = {"Accept": "text/event-stream"}


def events_in(text: str) -> list[tuple[str, str, Any]]:
    """Names, ids and JSON of the events in a body."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def names_in(text: str) -> list[str]:
    return [name for name, _, _ in events_in(text)]


class Model:
    """A handler whose chunks the test gives."""

    def __init__(self, service: Service) -> None:
        self._chunks: queue.Queue[Any] = queue.Queue()
        service.convstore.reply(self._reply)
        self._service = service
        self.session_id = service.start()
        self.path = f"/sessions/{self.session_id}"

    def _reply(self, turn: Turn) -> Iterator[Any]:
        return iter(self._chunks.get, None)

    def give(self, *chunks: Any) -> None:
        for chunk in chunks:
            self._chunks.put(chunk)

    def let_go(self) -> None:
        """End the handler that waits for a chunk, so that the next one gets the next chunks."""
        self._chunks.put(None)
        wait_for(self._chunks.empty, "no handler waits")

    def say(self, **options: Any) -> Iterator[str]:
        """Begin a turn. The lines of the events, as they come."""
        response = self._service.client.post(
            f"{self.path}/messages", json={"content": "hi"}, headers={**EVENTS, **options.pop("headers", {})}, **options
        )
        assert response.status_code == 201
        return map(bytes.decode, response.iter_encoded())

    def follow(self, turn: str = "current", **options: Any) -> TestResponse:
        return self._service.client.get(f"{self.path}/replies/{turn}", **options)

    def stop(self, turn: str = "current") -> TestResponse:
        return self._service.client.delete(f"{self.path}/replies/{turn}")


def until(lines: Iterator[str], word: str) -> str:
    return next(line for line in lines if word in line)


@pytest.fixture
def model(url: str) -> Model:
    return Model(Service(url))


def test_the_events_of_a_reply(model: Model) -> None:
    model.give(Part("reasoning", "Hm."), "On ", Part("source", {"url": "https://x.example"}), "its way.", None)
    body = "".join(model.say())
    events = events_in(body)
    assert body.startswith("retry: 2000\n\nid: 1-")
    assert [name for name, _, _ in events] == ["message", "part", "delta", "part", "delta", "reply", "done"]
    epochs = {event_id.partition("-")[2] for _, event_id, _ in events}
    assert len(epochs) == 1
    assert [int(event_id.partition("-")[0]) for _, event_id, _ in events] == list(range(1, 8))
    assert {shown["turn"] for _, _, shown in events} == {"msg-2"}
    message, reasoning, delta, source, _, reply, done = (shown for _, _, shown in events)
    assert (message["session_id"], message["message"]["content"]) == (model.session_id, "hi")
    assert (reasoning["kind"], reasoning["content"]) == ("reasoning", "Hm.")
    assert (delta["content"], source["content"]) == ("On ", {"url": "https://x.example"})
    assert reply["reply"]["content"] == "On its way."
    assert reply["reply"]["parts"] == [
        {"kind": "reasoning", "at": 0, "content": "Hm."},
        {"kind": "source", "at": 3, "content": {"url": "https://x.example"}},
    ]
    assert reply["version"] == 3
    assert done["status"] == "complete"


def test_the_headers_of_a_stream(model: Model, url: str) -> None:
    service = Service(url)
    service.convstore.reply(lambda turn: iter(["a"]))
    response = service.client.post("/sessions", json={"message": {"content": "hi"}}, headers=EVENTS)
    assert response.status_code == 201
    assert response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "ETag" not in response.headers
    session_id = response.headers["Location"].rpartition("/")[2]
    assert events_in(response.text)[0][2]["session_id"] == session_id


def test_without_the_header_the_same_handler_gives_json(model: Model, url: str) -> None:
    service = Service(url)
    service.convstore.reply(lambda turn: iter(["On ", "its way."]))
    path = f"/sessions/{service.start()}/messages"
    for accept in ("", "*/*", "application/json", "application/json, text/event-stream", "text/html, */*;q=0.1"):
        response = service.client.post(path, json={"content": "x"}, headers={"Accept": accept} if accept else {})
        assert service.json(response, 201)["reply"]["content"] == "On its way."
    body = {"alias": "a", "message": {"content": "x"}}
    problem(service.client.post("/sessions", json=body, headers=EVENTS), 401, "owner-required")


@pytest.mark.parametrize("place", ["header", "query"])
def test_a_reader_goes_on_where_it_was(model: Model, place: str) -> None:
    model.give("one ")
    lines = model.say()
    (_, position, _) = events_in(until(lines, "event: delta"))[0]
    options: dict[str, Any] = (
        {"headers": {"Last-Event-ID": position}} if place == "header" else {"query_string": {"last_event_id": position}}
    )
    model.give("two", None)
    "".join(lines)
    followed = model.follow("msg-2", **options).text
    assert names_in(followed)[-3:] == ["delta", "reply", "done"]
    assert "".join(shown["content"] for name, _, shown in events_in(followed) if name == "delta") == "two"
    last = events_in(followed)[-1][1]
    assert names_in(model.follow("msg-2", headers={"Last-Event-ID": last}).text) == []
    assert names_in(model.follow("msg-2").text) == ["message", "delta", "delta", "reply", "done"]


def test_a_reader_of_what_is_in_progress_goes_on_with_it(model: Model) -> None:
    """As a browser does, which connects again to the same address."""
    model.give("one ")
    lines = model.say()
    (_, position, _) = events_in(until(lines, "event: delta"))[0]
    model.give("two", None)
    last = events_in("".join(lines))[-1][1]
    for _ in range(2):
        assert names_in(model.follow(headers={"Last-Event-ID": position}).text) == ["delta", "reply", "done"]
        assert model.follow(headers={"Last-Event-ID": last}).status_code == 204
        model.give("another", None)
        "".join(model.say())


@pytest.mark.parametrize("position", ["2-1", "99-99", "nonsense", "0-0"])
def test_a_position_of_another_stream_is_reset(model: Model, position: str) -> None:
    model.give("all", None)
    "".join(model.say())
    followed = model.follow("msg-2", headers={"Last-Event-ID": position})
    assert names_in(followed.text) == ["reset", "message", "delta", "reply", "done"]


def test_a_reply_whose_stream_is_gone_has_the_same_events(model: Model, url: str) -> None:
    service = Service(url)
    service.convstore.reply(lambda turn: "whole")
    path = f"/sessions/{service.start(message={'content': 'hi'})}/replies/msg-2"
    assert names_in(service.client.get(path).text) == ["delta", "reply", "done"]
    resumed = service.client.get(path, headers={"Last-Event-ID": "2-7"}).text
    assert names_in(resumed) == ["reset", "delta", "reply", "done"]


def test_nothing_to_follow(model: Model) -> None:
    assert model.follow().status_code == 204
    assert model.follow().data == b""
    problem(model.follow("msg-9"), 404, "not-found")
    problem(model.follow("msg-1"), 404, "not-found")
    problem(model.stop(), 404, "not-found")
    problem(model.stop("msg-9"), 404, "not-found")


def test_a_stop(model: Model) -> None:
    model.give("one ")
    lines = model.say()
    until(lines, "event: delta")
    stopped = Service.json(model.stop(), 200)
    assert (stopped["status"], stopped["version"]) == ("stopped", 3)
    assert (stopped["reply"]["content"], stopped["reply"]["status"]) == ("one ", "stopped")
    rest = events_in("".join(lines))
    assert [name for name, _, _ in rest] == ["reply", "done"]
    assert rest[-1][2]["status"] == "stopped"
    model.give("late", None)
    again = Service.json(model.stop("msg-2"), 200)
    assert again == stopped
    problem(model.stop(), 404, "not-found")


def test_a_handler_that_fails_in_the_midst_keeps_what_had_come(model: Model) -> None:
    model.give("some", Part("error", "the model is overloaded"))
    events = events_in("".join(model.say()))
    assert [name for name, _, _ in events] == ["message", "delta", "reply", "error", "done"]
    assert events[2][2]["reply"]["status"] == "interrupted"
    assert "the model is overloaded" in events[3][2]["detail"]
    assert events[4][2]["status"] == "interrupted"


def test_a_handler_that_fails_at_once(model: Model) -> None:
    model.give(Part("error", "the model is overloaded"))
    events = events_in("".join(model.say()))
    assert [name for name, _, _ in events] == ["message", "error", "done"]
    assert events[2][2]["status"] == "failed"


def test_a_reply_that_has_become_too_large_to_be_stored_keeps_no_turn(url: str) -> None:
    """It could be neither stopped nor recovered, and no other turn could begin."""
    model = Model(Service(url, MAX_SESSION_BYTES=600))
    model.give("y" * 700)
    lines = model.say()
    until(lines, "event: delta")
    stopped = Service.json(model.stop(), 200)
    assert (stopped["status"], stopped["reply"]) == ("failed", None)
    assert names_in("".join(lines)) == ["error", "done"]
    model.let_go()
    model.give("short", None)
    assert names_in("".join(model.say()))[-2:] == ["reply", "done"]


@pytest.mark.parametrize("policy", ["reject", "wait", "supersede"])
def test_a_repeat_follows_the_reply_that_was_begun(url: str, policy: str) -> None:
    """With the policy to wait it waited for its own end."""
    model = Model(Service(url, TURN_POLICY=policy))
    key = {"Idempotency-Key": "k"}
    model.give("one ")
    first = model.say(headers=key)
    until(first, "event: delta")
    again = model.say(headers=key)
    assert '"one "' in until(again, "event: delta")
    model.give("two", None)
    assert '"content":"one two"' in "".join(again)
    assert '"content":"one two"' in "".join(first)
    third = names_in("".join(model.say(headers=key)))
    assert third[-2:] == ["reply", "done"]


def test_an_edited_reply_is_replayed_as_it_is(model: Model, url: str) -> None:
    model.give("wrong", None)
    "".join(model.say())
    app = model._service.app
    with app.app_context():
        model._service.convstore.edit_message(model.session_id, "msg-2", {"role": "assistant", "content": "right"})
    events = events_in(model.follow("msg-2").text)
    assert [name for name, _, _ in events] == ["delta", "reply", "done"]
    assert events[0][2]["content"] == "right"


def test_an_outside_id_leads_to_a_stream(url: str) -> None:
    """A start by an alias streams the reply to its message, of a new session and of one that is there."""
    service = OwnedService(url)
    service.convstore.reply(lambda turn: iter(["On ", "its way."]))
    body = {"alias": "telegram:1", "message": {"content": "hi"}}
    places = set()
    for status in (201, 200):
        response = service.call("ann", "POST", "", json=body, headers=EVENTS)
        assert (response.status_code, response.mimetype) == (status, "text/event-stream")
        assert names_in(response.text) == ["message", "delta", "reply", "done"]
        places.add(response.headers["Location"])
    assert len(places) == 1


def test_a_hidden_role_is_hidden_in_streams(url: str) -> None:
    """Clients who may not see the assistant's messages see no piece of them either, at first and when they come back."""
    service = Service(url, VISIBLE_ROLES=["user"])
    service.convstore.reply(lambda turn: iter(["secret", Part("tool_result", "secret")]))
    path = f"/sessions/{service.start()}"
    said = service.client.post(f"{path}/messages", json={"content": "hi"}, headers=EVENTS).text
    followed = service.client.get(f"{path}/replies/msg-2").text
    for told in (said, followed):
        assert names_in(told) == ["message", "reply", "done"]
        assert "secret" not in told
