"""Calls and results of tools in the messages of clients, who may speak only for the roles that they may write."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from flask_convstore.http.tool_parts import foreign_part, foreign_role

from ..service import OwnedService, Service, in_memory, problem

RESULTS: list[dict[str, Any]] = [
    {"type": "tool_result", "tool_use_id": "t", "content": "42"},
    {"type": "web_search_tool_result", "content": []},
    {"type": "function_call_output", "call_id": "c", "output": "42"},
    {"type": "computer_call_output"},
    {"type": "tool-result", "toolCallId": "t", "result": 42},
    {"type": "tool-getWeather", "state": "output-available", "output": 42},
    {"type": "dynamic-tool"},
    {"type": "TOOL_RESULT"},
    {"type": "x", "functionResponse": {"name": "f", "response": {}}},
    {"type": "x", "tool_call_id": "t"},
]
CALLS: list[dict[str, Any]] = [
    {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    {"type": "server_tool_use", "id": "t"},
    {"type": "function_call", "name": "f", "arguments": "{}"},
    {"type": "web_search_call"},
    {"type": "tool-call", "toolCallId": "", "toolName": "f"},
    {"type": "tool-invocation"},
    {"type": "x", "functionCall": {"name": "f"}},
    {"type": "x", "tool_calls": [{"id": "t"}]},
]
HARMLESS: list[dict[str, Any]] = [
    {"type": "text", "text": "tool_result"},
    {"type": "image_url", "image_url": {"url": "data:"}},
    {"type": "input_file"},
    {"type": "phone_call"},
    {"type": "result"},
    {"type": "tool"},
    {"type": "document", "tool_calls": None},
    {"type": "tool_result" * 100},
]


@pytest.mark.parametrize("part", RESULTS)
def test_a_result_needs_the_role_of_a_tool(part: dict[str, Any]) -> None:
    assert foreign_part([{"type": "text"}, part], ("user", "assistant")) == "tool"
    assert foreign_part([part], ("user", "tool", "assistant")) is None


@pytest.mark.parametrize("part", CALLS)
def test_a_call_needs_the_role_of_the_assistant(part: dict[str, Any]) -> None:
    assert foreign_part([part], ("user", "tool")) == "assistant"
    assert foreign_part([part], ("assistant",)) is None


@pytest.mark.parametrize("part", HARMLESS)
def test_other_parts_are_anybodys(part: dict[str, Any]) -> None:
    assert foreign_part([part], ("user",)) is None


def test_keys_of_a_body_speak_too() -> None:
    for body, role in (
        ({"role": "user", "content": "x", "tool_call_id": "t"}, "tool"),
        ({"role": "user", "content": None, "tool_calls": [{"id": "t"}]}, "assistant"),
        ({"role": "user", "content": None, "function_call": {"name": "f"}}, "assistant"),
        ({"role": "user", "parts": [{"functionResponse": {"name": "f"}}]}, "tool"),
        ({"role": "user", "content": {"type": "tool_result"}}, "tool"),
        ({"role": "user", "content": "x", "tool_calls": None}, None),
        ("tool_result", None),
    ):
        assert foreign_role(body, ("user",)) == role


@in_memory
@pytest.mark.parametrize("part", [*RESULTS[:5], *CALLS[:3]])
def test_clients_write_no_parts_of_tools(url: str, part: dict[str, Any]) -> None:
    """A model would believe a result that the user has made up."""
    service = Service(url)
    session_id = service.start(message={"content": "hi"})
    for method, path, body in (
        ("POST", "/sessions", {"message": {"content": [part]}}),
        ("POST", f"/sessions/{session_id}/messages", {"content": [part]}),
        ("PATCH", f"/sessions/{session_id}/messages/1", {"content": [{"type": "text", "text": "x"}, part]}),
    ):
        found = problem(service.client.open(path, method=method, json=body), 422, "invalid")
        [reasons] = found["errors"].values()
        assert "which need the role" in reasons[0]
    assert service.get(session_id)["version"] == 1


def test_clients_who_may_write_the_role_write_its_parts(url: str) -> None:
    service = Service(url, CLIENT_ROLES=["user", "tool"])
    session_id = service.start()
    service.say(session_id, [RESULTS[0]])
    service.say(session_id, [RESULTS[0]], role="tool")
    problem(service.client.post(f"/sessions/{session_id}/messages", json={"content": [CALLS[0]]}), 422, "invalid")


def test_an_import_has_no_parts_of_tools_that_its_roles_may_not_write(url: str) -> None:
    service = OwnedService(url, VISIBLE_ROLES=["user", "assistant"])

    def sent(body: Any) -> Any:
        line = {
            "session_id": str(uuid.uuid4()),
            "shape": "full",
            "data": {},
            "messages": [{"created_at_ms": 1, "body": body}],
        }
        return service.call("ada", "POST", "/import", data=json.dumps(line), content_type="application/x-ndjson")

    for body in (
        {"role": "user", "content": [RESULTS[0]]},
        {"role": "user", "content": "x", "tool_call_id": "t"},
        {"content": "x", "tool_call_id": "t"},
    ):
        assert "results of tools" in problem(sent(body), 422, "invalid")["errors"]["line 1"][0]
    assert sent({"role": "assistant", "content": [RESULTS[1]], "tool_calls": [{"id": "t"}]}).json == {
        "imported": 1,
        "complete": True,
    }
    assert sent("tool_result").json == {"imported": 1, "complete": True}
