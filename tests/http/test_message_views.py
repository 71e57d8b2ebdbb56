"""The views of messages: what a repeat gets, which messages clients may take away, and results of tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_convstore import Turn
from flask_convstore.config import Settings
from flask_convstore.http import schemas
from flask_convstore.http.request import formed

from ..servers import Server
from ..service import OwnedService, Service, problem
from ..wire import Proxy

KEY = {"Idempotency-Key": "7f0c1f7e-3d4b-4f43-9a35-6a4f1f2a9d10"}
CALLS = [
    {"id": name, "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{name}"}}'}}
    for name in ("oslo", "rome")
]


def paths(service: Service, **body: Any) -> tuple[str, str]:
    """Start a session, and give its id and the path of its messages."""
    session_id = service.start(**body)
    return session_id, f"/sessions/{session_id}/messages"


# ---- repeats


@pytest.mark.parametrize("handler", [True, False])
def test_a_repeat_that_replaces_gets_the_first_answer(service: Service, handler: bool) -> None:
    """The message that it has replaced is gone by then."""
    if handler:
        service.convstore.reply(lambda turn: f"re: {turn.message['content']}")
    session_id, path = paths(service, message={"content": "hi"})
    given = {"content": "again", "replaces": 1}
    first = service.client.post(path, json=given, headers=KEY)
    assert first.status_code == 201
    again = service.client.post(path, json=given, headers=KEY)
    assert (again.status_code, again.data) == (201, first.data)
    with service.app.app_context():
        service.convstore.drop(session_id, after=0)
    assert service.client.post(path, json=given, headers=KEY).status_code == 201
    assert service.get(session_id)["message_count"] == 0


def test_a_repeated_drop_gets_the_first_answer(service: Service) -> None:
    session_id, path = paths(service, message={"content": "hi"})
    service.say(session_id, "more")
    first = service.client.delete(f"{path}?after=1", headers=KEY)
    assert first.status_code == 200
    with service.app.app_context():
        service.convstore.drop(session_id, after=0)
    again = service.client.delete(f"{path}?after=1", headers=KEY)
    assert (again.status_code, again.data) == (200, first.data)


def test_without_a_key_a_named_message_that_replaces_itself_is_asked_again(service: Service) -> None:
    """As the docs say: such a repeat cannot be told from the wish for another reply."""
    replies = iter("abc")
    service.convstore.reply(lambda turn: next(replies))
    session_id, path = paths(service)
    given = {"content": "q", "id": "mine"}
    assert service.json(service.client.post(path, json=given), 201)["reply"]["content"] == "a"
    assert service.json(service.client.post(path, json=given), 201)["reply"]["content"] == "a"
    for text in ("b", "c"):
        answered = service.json(service.client.post(path, json={**given, "replaces": "mine"}), 201)
        assert answered["reply"]["content"] == text
    assert service.get(session_id)["message_count"] == 2


# ---- targets


@pytest.mark.parametrize("replaces", [7, "msg-7", "none", "٣", 2**52])
def test_nothing_to_replace_is_a_problem_of_its_own(service: Service, replaces: Any) -> None:
    _, path = paths(service, message={"content": "hi"})
    for handler in (None, lambda turn: "x"):
        service.convstore.reply(handler) if handler else None
        found = problem(
            service.client.post(path, json={"content": "x", "replaces": replaces}), 409, "nothing-to-replace"
        )
        assert found["written"] is False


@pytest.mark.parametrize(
    "replaces", ["", "a/b", 'a"b', "a\\b", ".a", "a\nb", "a" * 201, "7", "007", 0, -1, 1.5, True, [1], 2**60]
)
def test_a_target_that_no_message_can_have_is_invalid(service: Service, replaces: Any) -> None:
    _, path = paths(service, message={"content": "hi"})
    problem(service.client.post(path, json={"content": "x", "replaces": replaces}), 422, "invalid")
    if isinstance(replaces, str) and not replaces.isdigit():
        problem(service.client.delete(path, query_string={"after": replaces}), 422, "invalid")


def test_a_target_is_a_seq_or_an_id(service: Service) -> None:
    session_id, path = paths(service, message={"content": "a"})
    for replaces, text in ((1, "b"), (2.0, "c"), ("msg-3", "d")):
        service.json(service.client.post(path, json={"content": text, "replaces": replaces}), 201)
        assert [message["content"] for message in service.get(session_id)["history"]] == [text]


def test_a_start_replaces_nothing(service: Service) -> None:
    found = problem(service.client.post("/sessions", json={"message": {"content": "x", "replaces": 1}}), 422, "invalid")
    assert found["errors"] == {"message.replaces": ["Unknown field."]}
    document = service.json(service.client.get("/sessions/openapi.json"), 200)
    forms = document["components"]["schemas"]
    assert [name for name in forms if "replaces" in forms[name].get("properties", {})] == ["Continue"]


@pytest.mark.parametrize("role", ["system", "developer", "note", ["list"]])
def test_clients_take_away_no_message_of_the_apps(url: str, role: Any) -> None:
    """Not even a prompt that they see."""
    service = Service(url, VISIBLE_ROLES=["user", "assistant", "system", "developer"])
    session_id, path = paths(service)
    with service.app.app_context():
        service.convstore.append(session_id, {"role": role, "content": "be kind"}, {"role": "user", "content": "q"})
    problem(service.client.post(path, json={"content": "x", "replaces": 1}), 409, "nothing-to-replace")
    problem(service.client.delete(f"{path}/1"), 404, "not-found")
    problem(service.client.patch(f"{path}/1", json={"content": "be rude"}), 404, "not-found")
    with service.app.app_context():
        stored = service.convstore.get_session(session_id)
        assert stored is not None
        assert stored["history"][0] == {"role": role, "content": "be kind"}


def test_clients_may_drop_behind_a_prompt_that_they_see(url: str) -> None:
    service = Service(url, VISIBLE_ROLES=["user", "system"], CLIENT_ROLES=["user", "note"])
    session_id, path = paths(service)
    with service.app.app_context():
        service.convstore.append(session_id, {"role": "system", "content": "p"}, {"role": "note", "content": "n"})
    problem(service.client.delete(f"{path}?after=2"), 404, "not-found")
    problem(service.client.post(path, json={"content": "x", "replaces": 2}), 409, "nothing-to-replace")
    assert service.json(service.client.delete(f"{path}?after=1"), 200)["first_seq"] == 2
    service.say(session_id, "q")
    with service.app.app_context():
        service.convstore.append(session_id, {"role": "note", "content": "hidden"})
    assert service.json(service.client.post(path, json={"content": "x", "replaces": 3}), 201)["message"]["seq"] == 5
    assert service.get(session_id)["message_count"] == 2, "what stands behind it goes too, also what is hidden"


def test_clients_who_write_prompts_take_theirs_back(url: str) -> None:
    service = Service(url, VISIBLE_ROLES=["user", "system"], CLIENT_ROLES=["user", "system"])
    _, path = paths(service, message={"role": "system", "content": "p"})
    service.json(service.client.post(path, json={"content": "x", "role": "system", "replaces": 1}), 201)
    service.json(service.client.delete(f"{path}/2"), 200)


def test_a_writer_takes_messages_out_and_replaces_them(url: str) -> None:
    """As a writer may redact them. A reader may not, and a stranger finds no session."""
    service = OwnedService(url)
    with service.app.app_context():
        talk = [{"role": "user", "content": text} for text in "abc"]
        service.convstore.save_session("s", {"history": talk}, owner="owner")
        service.convstore.share("s", "reader")
        service.convstore.share("s", "writer", "writer")
    for caller, dropped, replaced in (("reader", 403, 403), ("stranger", 404, 404), ("writer", 200, 201)):
        assert service.call(caller, "DELETE", "/s/messages?after=2").status_code == dropped
        given = {"content": "x", "replaces": 1}
        assert service.call(caller, "POST", "/s/messages", json=given).status_code == replaced
    found: Any = service.call("owner", "GET", "/s").json
    assert [message["content"] for message in found["history"]] == ["x"]


# ---- tools


def calling(service: Service) -> list[Any]:
    """A handler as one writes it for OpenAI Chat: it calls two tools, and answers when both results are there."""
    shown: list[Any] = []

    @service.convstore.reply
    def reply(turn: Turn) -> Any:
        shown.append(turn.history)
        if turn.message["role"] == "user":
            return {"role": "assistant", "content": None, "tool_calls": CALLS}
        stored = service.convstore.get_session(turn.session_id, last=3)
        assert stored is not None
        calls = next(message["tool_calls"] for message in reversed(stored["history"]) if "tool_calls" in message)
        answered = {message["tool_call_id"] for message in stored["history"] if message["role"] == "tool"}
        return "It rains." if answered >= {call["id"] for call in calls} else None

    return shown


@pytest.mark.parametrize("named", [{}, {"name": "weather"}])
def test_a_client_runs_the_tools(url: str, named: dict[str, str]) -> None:
    service = Service(url, CLIENT_ROLES=["user", "tool"])
    shown = calling(service)
    session_id, path = paths(service)
    asked = service.say(session_id, "weather?")
    assert (asked["reply"]["content"], asked["reply"]["tool_calls"]) == (None, CALLS)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "rain", **named} for call in CALLS]
    first, second = (service.json(service.client.post(path, json=result, headers={}), 201) for result in results)
    assert first["reply"] is None
    assert first["message"].items() >= results[0].items()
    assert second["reply"]["content"] == "It rains."
    call = {"role": "assistant", "content": None, "tool_calls": CALLS}
    assert shown[-1] == [{"role": "user", "content": "weather?"}, call, *results]
    assert shown[1] == [shown[0][0], {**call, "tool_calls": CALLS[:1]}, results[0]], (
        "a call without a result is left out"
    )
    history = service.get(session_id)["history"]
    assert [message["role"] for message in history] == ["user", "assistant", "tool", "tool", "assistant"]
    assert history[1]["tool_calls"] == CALLS


def test_a_client_may_be_the_assistant_too(url: str) -> None:
    """As where the browser asks the model, and the app keeps the conversation."""
    service = Service(url, CLIENT_ROLES=["user", "assistant", "tool"])
    session_id, _ = paths(service)
    service.say(session_id, "weather?")
    called = service.say(session_id, None, role="assistant", tool_calls=CALLS, id="call-1")
    assert called["message"]["tool_calls"] == CALLS
    service.say(session_id, "rain", role="tool", tool_call_id="oslo")
    with service.app.app_context():
        stored = service.convstore.get_session(session_id)
        assert stored is not None
        assert stored["history"][1:] == [
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "content": "rain", "tool_call_id": "oslo"},
        ]


@pytest.mark.parametrize(
    ("roles", "body", "place"),
    [
        (["user"], {"content": "x", "tool_call_id": "c"}, "tool_call_id"),
        (["user"], {"content": "x", "tool_calls": CALLS}, "tool_calls"),
        (["user"], {"content": "x", "name": "f"}, "name"),
        (["user"], {"content": None}, "content"),
        (["user", "tool"], {"content": "x", "tool_calls": CALLS}, "tool_calls"),
        (["user", "tool"], {"content": None, "role": "tool", "tool_call_id": "c"}, "content"),
        (["user", "tool"], {"content": "x", "role": "tool", "tool_call_id": ""}, "tool_call_id"),
        (["user", "tool"], {"content": "x", "role": "tool", "tool_call_id": 7}, "tool_call_id"),
        (["user", "assistant"], {"content": None, "role": "assistant"}, "content"),
        (["user", "assistant"], {"content": None, "role": "assistant", "tool_calls": []}, "tool_calls"),
        (["user", "assistant"], {"content": "x", "role": "assistant", "tool_calls": ["c"]}, "tool_calls"),
        (["user", "assistant"], {"content": "x", "role": "assistant", "tool_call_id": "c"}, "tool_call_id"),
    ],
)
def test_keys_of_tools_need_their_role(url: str, roles: list[str], body: dict[str, Any], place: str) -> None:
    service = Service(url, CLIENT_ROLES=roles)
    session_id, path = paths(service)
    for found in (
        problem(service.client.post(path, json=body), 422, "invalid"),
        problem(service.client.post("/sessions", json={"message": body}), 422, "invalid"),
    ):
        assert [name.removeprefix("message.") for name in found["errors"]] == [place]
    assert service.get(session_id)["version"] == 1


# ---- round trips


@pytest.mark.server
def test_a_look_at_the_target_is_one_round_trip_more(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        service = Service(proxy.url)
        session_id, path = paths(service)

        def trips(method: str, **sent: Any) -> int:
            proxy.reset()
            assert service.client.open(path, method=method, **sent).status_code < 300
            return proxy.round_trips

        for _ in range(2):  # at first the server does not know the scripts
            said = trips("POST", json={"content": "a", "id": "a"})
            replaced = trips("POST", json={"content": "b", "id": "b", "replaces": "a"})
            dropped = trips("DELETE", query_string={"after": "b"})
            with service.app.app_context():
                service.convstore.drop(session_id, after=0)
        assert (said, replaced, dropped) == (1, 2, 2)


# ---- the usual body


@pytest.mark.parametrize("roles", [("user",), ("assistant", "tool"), ("system", "user")])
def test_the_usual_body_becomes_the_message_that_the_form_makes_of_it(roles: tuple[str, ...]) -> None:
    """The short way must take nothing that the form refuses, and must change nothing."""
    settings = Settings(client_roles=roles)
    form = schemas.continue_body(settings)
    taken = 0
    for value in _bodies():
        message = schemas.plain_message(value, settings)
        if message is not None:
            assert message == schemas.message_in(formed(value, form)).body
            assert list(message) == ["role", "content"]
            taken += 1
    assert taken > 1


def _bodies() -> Iterator[Any]:
    """Make bodies, of which some are usual."""
    contents: list[Any] = ["hi", "", None, 1, True, [], {}, [{"type": "text", "text": "hi"}]]
    roles: list[Any] = ["user", "assistant", "tool", "system", "", None, 1, [], {}]
    yield from (None, [], "hi", 1, {}, {"role": "user"})
    for content in contents:
        yield {"content": content}
        for role in roles:
            yield {"content": content, "role": role}
            yield {"role": role, "content": content, "id": "my-7"}
    yield {"content": "hi", "replaces": 1}
    yield {"content": "hi", "metadata": None}
    yield {"content": "hi", "unknown": 1}
