"""Sharing: every route and every command for the owner, for guests and for strangers."""

from __future__ import annotations

import functools
import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from flask_convstore import ANY, Forbidden, InvalidInput, SessionMoved, SessionNotFound
from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    Merge,
    NoteAlias,
    Put,
    RenewTurn,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.messages import Message, join_element
from flask_convstore.domain.types import Alias
from flask_convstore.errors import ConvstoreError, TurnLost
from flask_convstore.http.routes import ROUTES as ROUTES_TABLE
from flask_convstore.operations import aliases, branching, messages, rotation, updates
from flask_convstore.operations.turns import begin, hold

from .. import service
from ..harness import Harness, PlainConversations, in_memory
from ..service import OwnedService, problem

TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
ABSENT = "2f1c0000-0000-4000-8000-000000000000"

# the body, and the status for the owner, a reader, a writer, a stranger, nobody
MATRIX: dict[str, tuple[dict[str, Any], tuple[int, int, int, int, int]]] = {
    "start_session": ({"json": {}}, (201, 201, 201, 201, 201)),
    "list_sessions": ({}, (200, 200, 200, 200, 401)),
    "delete_sessions": ({}, (200, 200, 200, 200, 401)),
    "health": ({}, (200, 200, 200, 200, 200)),
    "openapi": ({}, (200, 200, 200, 200, 200)),
    "metrics": ({}, (200, 200, 200, 200, 200)),
    "script": ({}, (200, 200, 200, 200, 200)),
    "export_sessions": ({}, (200, 200, 200, 200, 401)),
    "import_sessions": ({"data": b"", "content_type": "application/x-ndjson"}, (200, 200, 200, 200, 401)),
    "current_session": ({}, (404, 404, 404, 404, 401)),
    "set_current_session": ({"json": {"session_id": "s"}}, (200, 403, 403, 404, 401)),
    "get_session": ({}, (200, 200, 200, 404, 404)),
    "update_session": ({"json": {"data": {"x": 1}, "title": "t"}}, (200, 403, 200, 404, 404)),
    "delete_session": ({}, (200, 403, 403, 404, 404)),
    "continue_session": ({"json": {"content": "more"}}, (201, 403, 201, 404, 404)),
    "list_messages": ({}, (200, 200, 200, 404, 404)),
    "drop_messages": ({"query_string": {"after": "1"}}, (200, 403, 200, 404, 404)),
    "edit_message": ({"json": {"content": "other"}}, (200, 403, 200, 404, 404)),
    "redact_message": ({}, (200, 403, 200, 404, 404)),
    "follow_reply": ({}, (200, 200, 200, 404, 404)),
    "stop_reply": ({}, (200, 403, 200, 404, 404)),
    "session_events": ({}, (200, 200, 200, 404, 404)),
    "list_events": ({}, (200, 200, 200, 200, 401)),
    "compact_session": ({"json": {"summary": "so far", "keep": 1}}, (201, 403, 403, 404, 404)),
    "fork_session": ({"json": {}}, (201, 201, 201, 404, 404)),
}
EVENTS = (("Accept", "text/event-stream"), ("Last-Event-ID", "1-1"))
CALLERS = ("owner", "reader", "writer", "stranger", None)
ROUTES = {route.endpoint: (route.rule, route.method) for route in ROUTES_TABLE}


def shared_at(url: str) -> OwnedService:
    """A session of ``owner`` that ``reader`` and ``writer`` share."""
    service = OwnedService(url, CLIENT_TTL=True, METRICS=True)
    with service.app.app_context():
        service.convstore.save_session("s", {"kept": True, "history": TALK}, owner="owner")
        service.convstore.share("s", "reader")
        service.convstore.share("s", "writer", "writer")
    return service


@pytest.fixture
def shared(url: str) -> OwnedService:
    return shared_at(url)


def path_of(endpoint: str, session_id: str = "s") -> tuple[str, str]:
    rule, method = ROUTES[endpoint]
    return method, service.path_of(rule, session_id).removeprefix("/sessions")


def stored(service: OwnedService, session_id: str = "s") -> Any:
    found = service.convstore._access().backend.store.load(session_id, ANY, is_interaction=False)
    return found and (
        found.version,
        found.fields,
        found.elements,
        found.title,
        found.owner,
        found.moved_to,
        found.shared,
    )


def seen(response: TestResponse) -> Any:
    return response.status, response.data, [(k, v) for k, v in response.headers if k not in ("Date", "Content-Length")]


def test_the_matrix_has_every_route() -> None:
    assert set(MATRIX) == set(ROUTES)


@pytest.mark.parametrize("endpoint", MATRIX)
def test_every_route_for_everybody(url: str, endpoint: str) -> None:
    options, statuses = MATRIX[endpoint]
    for caller, status in zip(CALLERS, statuses, strict=True):
        check_route(shared_at(url), endpoint, options, caller, status)


def check_route(shared: OwnedService, endpoint: str, options: dict[str, Any], caller: str | None, status: int) -> None:
    with shared.app.app_context():
        before = stored(shared)
        method, path = path_of(endpoint)
        response = shared.call(caller, method, path, **options)
        assert response.status_code == status, (caller, response.data)
        if status >= 400 or caller not in ("owner", "writer"):
            assert stored(shared) == before, f"nothing is written that is refused to {caller}"
        if caller in ("stranger", None) and "session_id>" in ROUTES[endpoint][0]:
            assert seen(response) == seen(shared.call(caller, *path_of(endpoint, ABSENT), **options))
        if status < 300 and caller != "owner" and "session_id>" not in ROUTES[endpoint][0]:
            assert b'"s"' not in response.data, f"a session that {caller} shares is not listed, nor exported"
        shared.convstore.delete_session("s", owner=ANY)
        shared.convstore.close()


@pytest.mark.parametrize("endpoint", [name for name, (rule, _) in ROUTES.items() if "session_id>" in rule])
def test_a_stranger_learns_nothing_by_headers_or_broken_bodies(shared: OwnedService, endpoint: str) -> None:
    for name, value in (
        ("If-Match", '"1-1"'),
        ("If-None-Match", "*"),
        ("Idempotency-Key", "k"),
        ("Range", "x"),
        *EVENTS,
    ):
        for options in (MATRIX[endpoint][0], {"json": {"?": 1}}, {"data": b"{", "content_type": "application/json"}):
            answers = [
                seen(shared.call("stranger", *path_of(endpoint, session_id), headers={name: value}, **options))
                for session_id in ("s", ABSENT)
            ]
            assert answers[0] == answers[1], (name, options)


@pytest.mark.parametrize("query", ["", "?last=0", "?last=-1", "?before=1", "?limit=5000"])
def test_a_stranger_learns_nothing_by_queries(shared: OwnedService, query: str) -> None:
    for path in ("", "/messages"):
        answers = [seen(shared.call("stranger", "GET", f"/{name}{path}{query}")) for name in ("s", ABSENT)]
        assert answers[0] == answers[1]


def test_a_number_that_no_message_has_tells_a_stranger_nothing(shared: OwnedService) -> None:
    for seq in (0, 1, 2, 3, 2**53, 10**30):
        for method in ("PATCH", "DELETE"):
            paths = [f"/{name}/messages/{seq}" for name in ("s", ABSENT)]
            answers = [seen(shared.call("stranger", method, path, json={"content": "x"})) for path in paths]
            assert answers[0] == answers[1]


@pytest.mark.parametrize("body", [{"ttl": 1}, {"ttl": 1, "data": {"x": 1}}, {"ttl": 10**7}])
def test_a_writer_cannot_end_a_session_by_a_lifetime(shared: OwnedService, body: Any) -> None:
    with shared.app.app_context():
        before = stored(shared)
        problem(shared.call("writer", "PATCH", "/s", json=body), 403, "forbidden")
        assert stored(shared) == before
    assert shared.call("owner", "PATCH", "/s", json=body).status_code == 200


def test_a_guests_fork_is_the_guests_own(shared: OwnedService) -> None:
    """The fork takes no place of the owner's quota, and the owner cannot see it."""
    for guest in ("reader", "writer"):
        forked = shared.call(guest, "POST", "/s/fork").json
        assert forked
        session_id = forked["session_id"]
        assert [session["session_id"] for session in shared.call(guest, "GET").json["sessions"]] == [session_id]  # type: ignore[index]
        assert shared.call("owner", "GET", f"/{session_id}").status_code == 404
    listed = shared.call("owner", "GET").json
    assert listed
    assert [session["session_id"] for session in listed["sessions"]] == ["s"]


def event_in(response: TestResponse, name: str) -> str:
    """The next event of that name, as it comes."""
    return next(event for event in map(bytes.decode, response.iter_encoded()) if f"event: {name}\n" in event)


def test_a_reply_in_progress_for_everybody(shared: OwnedService) -> None:
    """A reader may follow it, and a writer may stop it. For strangers there is no such session."""
    chunks: queue.Queue[str] = queue.Queue()
    chunks.put("some")
    shared.convstore.reply(lambda turn: iter(chunks.get, ""))
    begun = functools.partial(
        shared.call, method="POST", path="/s/messages", json={"content": "x"}, headers=dict(EVENTS)
    )
    for stranger in ("stranger", None):
        problem(begun(stranger), 404, "not-found")
    problem(begun("reader"), 403, "forbidden")
    begun_by_owner = begun("owner")
    assert begun_by_owner.status_code == 201
    assert '"content":"x"' in event_in(begun_by_owner, "message")
    for reply in ("current", "msg-4"):
        path = f"/s/replies/{reply}"
        for stranger in ("stranger", None):
            problem(shared.call(stranger, "GET", path), 404, "not-found")
            problem(shared.call(stranger, "DELETE", path), 404, "not-found")
        problem(shared.call("reader", "DELETE", path), 403, "forbidden")
    followed = shared.call("reader", "GET", "/s/replies/current")
    assert event_in(followed, "delta").endswith('"content":"some"}\n\n')
    stopped = shared.json(shared.call("writer", "DELETE", "/s/replies/current"), 200)
    assert (stopped["status"], stopped["reply"]["content"]) == ("stopped", "some")
    assert b'event: done\ndata: {"turn":"msg-4","status":"stopped"}' in followed.data
    chunks.put("")


def test_nobody_shares_over_http() -> None:
    assert not any("share" in endpoint for endpoint in ROUTES)


# ---- in Python, every command


@pytest.fixture
def conversations(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session("s", {"kept": True, "history": TALK}, owner="owner")
    updates.share(conversations.access("owner"), "s", "reader", "reader")
    updates.share(conversations.access("owner"), "s", "writer", "writer")
    return conversations


SAID = (join_element(1, b'"x"'),)


def commands(owner: str, loaded: bytes) -> Iterator[tuple[str, Any, bool]]:
    """Each command, and True if a writer may."""
    given: dict[str, Any] = {"session_id": "s", "owner": owner}
    turn = BeginTurn(**given, element=SAID[0], lease_ms=60_000)
    yield "append", Append(**given, elements=SAID), True
    yield "set fields", Append(**given, elements=(), fields=(("a", b"1"),)), True
    yield "update fields", Update(**given, fields=(("a", b"1"),)), True
    yield "title", Update(**given, title="t"), True
    yield "lifetime", Update(**given, ttl_ms=60_000), False
    yield "merge", Merge(**given, history=Extend(0, SAID)), True
    yield (
        "merge, lifetime",
        Merge(**given, history=Extend(0, SAID), ttl_ms=60_000),
        False,
    )
    yield "upsert", Merge(**given, shape="full", history=Extend(0, SAID), creates=True), True
    yield "upsert, lifetime", Merge(**given, shape="full", creates=True, ttl_ms=60_000), False
    yield "edit", Edit(**given, seq=1, loaded=loaded, element=SAID[0]), True
    yield "begin", turn, True
    yield "renew", RenewTurn(**given, turn=turn.attempt, lease_ms=60_000), True
    yield "commit", CommitTurn(**given, turn=turn.attempt, elements=SAID), True
    yield "hold", BeginTurn(**given, element=None, lease_ms=60_000, supersede=True), False
    yield "touch", Touch(**given), True
    yield "touch, lifetime", Touch(**given, ttl_ms=60_000), False
    yield "lead an alias here", NoteAlias(**given, alias=Alias(None, "x"), leads_here=True), False
    yield "lead an alias away", NoteAlias(**given, alias=Alias(None, "x"), leads_here=False), False
    yield "share", Share(**given, name="friend", role="writer"), False
    yield "promote", Share(**given, name=owner, role="writer"), False
    yield "delete", Delete(**given), False
    replaced = Put(**given, mode="replace", shape="full", elements=SAID)
    yield "replace", replaced, True
    yield "end it by one from elsewhere", replace(replaced, started_at_ms=1), False


@pytest.mark.parametrize("role", ["reader", "writer", "stranger"])
def test_every_command_of_a_guest(conversations: PlainConversations, role: str) -> None:
    store = conversations.backend.store

    def state() -> Any:
        found = store.load("s", ANY, is_interaction=False)
        assert found
        return found.version, found.fields, found.elements, found.shared, found.own_ttl_ms, found.aliases, found.title

    found = store.load("s", ANY)
    assert found
    for name, command, may_write in commands(role, found.elements[0]):
        before = state()
        try:
            if isinstance(command, BeginTurn):
                store.begin(command)
            else:
                store.apply(command)
            outcome: Any = None
        except ConvstoreError as error:
            outcome = type(error)
        if role == "stranger":
            assert outcome is SessionNotFound, name
        elif (role == "writer" and may_write) or name == "touch":
            assert outcome is None, name
        else:
            assert outcome is Forbidden, name
            assert state() == before, name


def test_a_replaced_session_keeps_its_owner(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"mine": True}, owner="writer")
    assert conversations.get_session("s", owner="owner") == {"mine": True}
    assert conversations.get_session("s", owner="reader") == {"mine": True}
    assert [s.session_id for s in conversations.list_sessions(owner="writer").sessions] == []


def test_an_operation_refused_to_a_guest_changes_nothing(conversations: PlainConversations) -> None:
    aliases.link(conversations.access("owner"), "web:1", "s")
    before = [s.version for s in conversations.list_sessions(owner="owner").sessions]
    for guest in ("reader", "writer"):
        for call in (
            lambda guest=guest: branching.compact(conversations.access(guest), "s", "so far"),
            lambda guest=guest: rotation.rotate_id(conversations.access(guest), "s"),
            lambda guest=guest: rotation.rotate_id(conversations.access(guest), "s", new_owner=guest),
            lambda guest=guest: hold(conversations.access(guest), "s"),
            lambda guest=guest: aliases.link(conversations.access(guest), "web:2", "s"),
            lambda guest=guest: updates.share(conversations.access(guest), "s", "friend", "writer"),
            lambda guest=guest: conversations.touch("s", ttl=1, owner=guest),
            lambda guest=guest: conversations.delete_session("s", owner=guest),
        ):
            with pytest.raises(Forbidden):
                call()
    assert [s.version for s in conversations.list_sessions(owner="owner").sessions] == before
    for guest in ("reader", "writer"):
        assert conversations.list_sessions(owner=guest).sessions == []


# ---- revoked at once


def test_a_share_revoked_in_the_middle_of_a_turn(conversations: PlainConversations) -> None:
    turn, _ = begin(conversations.access("writer"), "s", {"role": "user", "content": "q"})
    assert turn
    updates.share(conversations.access("owner"), "s", "writer", None)
    with pytest.raises(SessionNotFound), turn:
        turn.reply("too late")
    session = conversations.get_session("s", owner="owner")
    assert session is not None
    assert session["history"][-1]["content"] == "q"


@pytest.mark.parametrize("role", [None, "reader"])
def test_a_known_token_gives_no_access_after_a_share(conversations: PlainConversations, role: Any) -> None:
    """Otherwise a repeat would return the receipt, and move the lifetime."""
    calls: list[Any] = [
        lambda: conversations.append("s", Message("x"), token="T", owner="writer"),
        lambda: begin(conversations.access("writer"), "s", {"role": "user", "content": "q"}, token="B"),
        lambda: messages.edit(conversations.access("writer"), "s", 1, "y", token="E"),
    ]
    for call in calls:
        call()
    updates.share(conversations.access("owner"), "s", "writer", role)
    for call in calls:
        with pytest.raises(SessionNotFound if role is None else Forbidden):
            call()
    assert (conversations.get_session("s", owner="writer") is None) == (role is None)
    conversations.delete_session("s")
    for call in calls:
        with pytest.raises(SessionNotFound):
            call()


@pytest.mark.parametrize("digest", ["", "another"])
def test_the_owners_token_opens_nothing_to_a_guest(conversations: PlainConversations, digest: str) -> None:
    store = conversations.backend.store
    found = store.load("s", ANY)
    assert found
    writes = [
        (name, command)
        for name, command, may in commands("writer", found.elements[0])
        if not may and isinstance(command, (Update, Merge, BeginTurn))
    ]
    assert [name for name, _ in writes] == ["lifetime", "merge, lifetime", "upsert, lifetime", "hold"]
    for _, command in writes:
        as_owner = replace(command, owner="owner")
        store.begin(as_owner) if isinstance(as_owner, BeginTurn) else store.apply(as_owner)
        of_guest = replace(command, digest=digest)
        with pytest.raises(Forbidden):
            store.begin(of_guest) if isinstance(of_guest, BeginTurn) else store.apply(of_guest)


def test_a_share_ends_with_its_session(conversations: PlainConversations, harness: Harness) -> None:
    conversations.delete_session("s", owner="owner")
    assert conversations.get_session("s", owner="reader") is None
    conversations.save_session("s", {"new": True}, owner="owner")
    assert conversations.get_session("s", owner="reader") is None
    updates.share(conversations.access("owner"), "s", "reader", "reader")
    harness.expire("s")
    conversations.save_session("s", {"newer": True}, owner="owner")
    assert conversations.get_session("s", owner="reader") is None


def test_reserved_words_are_ordinary_names_of_owners(conversations: PlainConversations) -> None:
    """Also for shares of an ownerless session."""
    conversations.save_session("free", {"a": 1}, owner=None)
    updates.share(conversations.access(None), "free", "friend", "reader")
    assert conversations.get_session("free", owner="friend") == {"a": 1}
    assert conversations.get_session("free", owner="other") is None
    for name in ("*", "=owner", "s:owner", "wner", "owner ", "OWNER"):
        assert conversations.get_session("s", owner=name) is None
        updates.share(conversations.access("owner"), "s", name, "reader")
        assert conversations.get_session("s", owner=name) is not None
        updates.share(conversations.access("owner"), "s", name, None)
        assert conversations.get_session("s", owner=name) is None


@in_memory
@pytest.mark.parametrize(
    ("name", "role"), [("", "reader"), ("x" * 201, "reader"), ("a\nb", "reader"), ("ok", "admin"), (None, "reader")]
)
def test_names_and_roles_are_validated(conversations: PlainConversations, name: Any, role: Any) -> None:
    with pytest.raises(InvalidInput):
        updates.share(conversations.access("owner"), "s", name, role)


def test_sharing_counts_one_version(conversations: PlainConversations) -> None:
    """A copy in progress notices a new share. A repeat changes nothing."""

    def version() -> int:
        session = conversations.get_session("s")
        assert session is not None
        return session.version

    before = version()
    updates.share(conversations.access("owner"), "s", "friend", "reader")
    updates.share(conversations.access("owner"), "s", "friend", "reader")
    assert version() == before + 1
    updates.share(conversations.access("owner"), "s", "friend", None)
    updates.share(conversations.access("owner"), "s", "friend", None)
    assert version() == before + 2


def test_a_copy_is_shared_as_its_source(conversations: PlainConversations) -> None:
    compacted = branching.compact(conversations.access("owner"), "s", "so far").session_id
    rotated = rotation.rotate_id(conversations.access("owner"), compacted).session_id
    assert conversations.get_session(rotated, owner="reader") is not None
    forked = branching.fork(conversations.access("owner"), rotated).session_id
    assert conversations.get_session(forked, owner="reader") is None


def test_a_share_revoked_during_a_compaction(conversations: PlainConversations) -> None:
    def summary(left_out: list[Any]) -> str:
        updates.share(conversations.access("owner"), "s", "reader", None)
        updates.share(conversations.access("owner"), "s", "late", "reader")
        updates.update(conversations.access("owner"), "s", title="renamed")
        return "so far"

    compacted = branching.compact(conversations.access("owner"), "s", summary)
    assert compacted.title == "renamed"
    assert conversations.get_session(compacted.session_id, owner="reader") is None
    assert conversations.get_session(compacted.session_id, owner="late") is not None


def test_a_share_made_before_a_login_does_not_follow(conversations: PlainConversations) -> None:
    """Session fixation: the attacker has started the session, and shared it with an account of their own."""
    taken = rotation.rotate_id(conversations.access("owner"), "s", new_owner="victim").session_id
    for attacker in ("owner", "reader", "writer"):
        for session_id in ("s", taken):
            assert conversations.get_session(session_id, owner=attacker) is None
            with pytest.raises(SessionNotFound):
                conversations.append(session_id, Message("x"), owner=attacker)
    assert conversations.get_session(taken, owner="victim") is not None


def test_a_superseded_guest_writes_nothing(conversations: PlainConversations) -> None:
    turn, _ = begin(conversations.access("writer"), "s", "q")
    begin(conversations.access("owner"), "s", "mine", policy="supersede")
    assert turn
    with pytest.raises(TurnLost), turn:
        turn.reply("late")


# ---- compacted


@pytest.mark.parametrize("guest", ["reader", "writer"])
def test_a_compacted_session_is_shared_as_the_one_that_goes_on(conversations: PlainConversations, guest: str) -> None:
    """After the end of a share the guest could still read, and write to, what a compaction had left behind."""
    loaded = conversations.get_session("s", owner=guest)
    assert isinstance(loaded, dict)
    loaded["x"] = 1
    first = branching.compact(conversations.access("owner"), "s", "so far").session_id
    second = branching.compact(conversations.access("owner"), first, "so far").session_id

    def calls(session_id: str) -> list[Any]:
        access = conversations.access(guest)
        stored = conversations.backend.store.load(session_id, ANY, is_interaction=False)
        seq = stored.first_seq if stored else 1
        return [
            lambda: conversations.append(session_id, Message("x"), owner=guest),
            lambda: conversations.append(session_id, data={"x": 1}, owner=guest),
            lambda: conversations.update_session(session_id, {"x": 1}, owner=guest),
            lambda: conversations.update_session(session_id, title="x", owner=guest),
            lambda: messages.edit(access, session_id, seq, "x"),
            lambda: messages.redact(access, session_id, seq),
            lambda: begin(access, session_id, {"role": "user", "content": "q"}),
            lambda: conversations.save_session(session_id, {"x": 1}, owner=guest),
            lambda: conversations.save_session(session_id, loaded, owner=guest),
            lambda: conversations.delete_session(session_id, owner=guest) or _raise(SessionNotFound(session_id)),
            lambda: conversations.touch(session_id, ttl=60, owner=guest) or _raise(SessionNotFound(session_id)),
            lambda: updates.share(access, session_id, guest, "writer"),
            lambda: aliases.link(access, "web:1", session_id),
            lambda: rotation.rotate_id(access, session_id),
            lambda: branching.compact(access, session_id, "so far"),
        ]

    def seen(session_id: str) -> list[bool]:
        page = conversations.access(guest).messages(session_id, None, 10)
        many = conversations.access(guest).load_many([session_id])
        left = conversations.salvage(session_id, owner=guest)
        session = conversations.get_session(session_id, owner=guest)
        return [session is not None, page is not None, many != [None], left is not None]

    def state() -> Any:
        return [conversations.backend.store.load(name, ANY, is_interaction=False) for name in ("s", first)]

    before = state()
    for archived in ("s", first):
        assert seen(archived) == [True] * 4
        assert branching.fork(conversations.access(guest), archived)["kept"]
        for call in calls(archived):
            with pytest.raises((SessionMoved, Forbidden)):
                call()
    conversations.unshare(second, guest, owner="owner")
    for archived in ("s", first):
        assert seen(archived) == [False] * 4
        for call in calls(archived):
            with pytest.raises(SessionNotFound):
                call()
        with pytest.raises(SessionNotFound):
            branching.fork(conversations.access(guest), archived)
        assert conversations.get_session(archived, owner="owner") is not None
    now = state()
    assert [(s.version, s.elements, s.fields) for s in now] == [(s.version, s.elements, s.fields) for s in before]


def _raise(error: Exception) -> Any:
    raise error
