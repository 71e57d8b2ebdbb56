"""The table of docs/outages.md: every call while Redis is away, in each mode. This makes it true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_convstore import ConversationStore
from flask_convstore.errors import ConvstoreError, StoreUnavailable

from ..servers import Server, running
from ..service import Service
from .test_outage import echo, handed_over

PAGE = Path(__file__).parents[2] / "docs" / "outages.md"

Call = Callable[[Service, ConversationStore, str], Any]


def _turn(_: Service, convstore: ConversationStore, session_id: str) -> Any:
    with convstore.turn(session_id, "more") as turn:
        turn.reply("re: more")
    return turn


def _told(method: Callable[..., None], *arguments: str) -> str:
    """Call what answers nothing."""
    method(*arguments)
    return "done"


def _http(method: str, path: str = "", body: Any = None) -> Call:
    def call(service: Service, _: ConversationStore, session_id: str) -> Any:
        return service.client.open(f"/sessions/{session_id}{path}", method=method, json=body)

    return call


CALLS: dict[str, Call] = {
    "`get_session(id)`, `sessions.get(id)`": lambda _, store, sid: store.get_session(sid),
    "`id in sessions`, `exists(id)`": lambda _, store, sid: sid in store.sessions,
    "`sessions[id]`, `del sessions[id]`": lambda _, store, sid: dict(store.sessions[sid]),
    "`setdefault(id, {…})`": lambda _, store, sid: store.setdefault(sid, {"step": 1, "history": []}),
    "`save_session(id, {…})`, `sessions[id] = {…}`": lambda _, store, sid: store.save_session(sid, {"step": 1}),
    "`append(id, …)`, `append_many`": lambda _, store, sid: store.append(sid, "more"),
    "`append(id, …, create=True)`": lambda _, store, sid: store.append(sid, "more", create=True),
    "`append(id, …, expected_version=)`": lambda _, store, sid: store.append(sid, "more", expected_version=1),
    "`save_message(key, …)`": lambda _, store, sid: store.save_message(f"chat {sid}", "user", "more"),
    "`get_conversation(key)`": lambda _, store, sid: store.get_conversation(f"chat of {sid}"),
    "`turn(id, …)`": _turn,
    "`update_session(id, {…}, title=)`": lambda _, store, sid: store.update_session(sid, {"step": 2}, title="new"),
    "`touch(id)`": lambda _, store, sid: store.touch(sid),
    "`delete_session(id)`": lambda _, store, sid: store.delete_session(sid),
    "`messages(id)`": lambda _, store, sid: store.messages(sid),
    "`drop(id, newest=1)`, `pop_message(id)`": lambda _, store, sid: store.drop(sid, newest=1),
    "`edit_message`, `redact_message`, `turn(replaces=)`": lambda _, store, sid: store.redact_message(sid, 1),
    "`resolve(alias)`, `unlink(alias)`, `clear(alias)`": lambda _, store, sid: store.resolve(f"alias of {sid}"),
    "`resolve(alias, create=True)`": lambda _, store, sid: store.resolve(f"alias of {sid}", create=True),
    "`link(alias, id)`": lambda _, store, sid: _told(store.link, f"other alias of {sid}", sid),
    "`share(id, name)`": lambda _, store, sid: _told(store.share, sid, "eve"),
    "`compact`, `fork`, `rotate_id`": lambda _, store, sid: store.fork(sid),
    "`list_sessions()`, `export_owner()`, `usage()`": lambda _, store, sid: store.list_sessions(),
    "`POST /sessions`": lambda service, _, __: service.client.post("/sessions", json={}),
    "`GET /sessions/<id>`, `GET …/messages`": _http("GET"),
    "`POST /sessions/<id>/messages`": _http("POST", "/messages", {"content": "more"}),
    "`PATCH /sessions/<id>`": _http("PATCH", "", {"title": "new"}),
    "`DELETE /sessions/<id>`": _http("DELETE"),
}


def outcome(call: Call, service: Service, session_id: str) -> str:
    """Answer of a call, in the words of the table."""
    try:
        answer = call(service, service.convstore, session_id)
    except KeyError:
        return "`KeyError`"
    except StoreUnavailable:
        return "503"
    except ConvstoreError as error:
        return type(error).__name__
    status = getattr(answer, "status_code", None)
    if status is not None:
        mark = ", partial" if "Convstore-Partial" in answer.headers else ""
        return f"{status}{mark}"
    if answer is None or answer is False or answer == []:
        return f"`{answer}`"
    return "yes, partial" if getattr(answer, "partial", False) else "yes"


def outcomes_of(server: Server) -> dict[str, list[str]]:
    """Answers of all calls: refusing, for a session that is known, and any other. Then going on, for both."""
    services = [service_of(server, mode) for mode in ("refuse", "continue")]
    inside = {name: services[0].start(message={"content": "before"}) for name in CALLS}
    found: dict[str, list[str]] = {name: [] for name in CALLS}
    server.kill()
    for service in services:
        with service.app.app_context():
            for name, call in CALLS.items():
                known = service.start(message={"content": "meanwhile"})
                found[name] += [outcome(call, service, known), outcome(call, service, inside[name])]
                nowhere = outcome(call, service, f"{inside[name]}-nowhere")
                assert nowhere == found[name][-1], name  # nobody knows that it is nowhere
    server.start()
    for service in services:
        handed_over(service)
    return found


def service_of(server: Server, mode: str) -> Service:
    config = {"OUTAGE": mode, "RETRIES": 0, "CIRCUIT_FAILURES": 1, "BUDGET": 1, "PREFIX": f"{mode}:"}
    service = Service(server.url, **{**config, "CONVERSATION_PREFIX": f"{mode}-chat:"})
    service.convstore.reply(echo)
    return service


def rows() -> dict[str, list[str]]:
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if re.match(r"\| `", line) and len(cells) >= 5:
            found[cells[0].lstrip("| ")] = cells[1:5]
    return found


@pytest.mark.server
@pytest.mark.slow
def test_the_table_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the journals lie there
    with running("valkey", "--appendonly", "yes") as server:
        outcomes = outcomes_of(server)
    for name, found in outcomes.items():
        print(f"| {name} | {' | '.join(found)} |")
    assert rows() == outcomes
