"""Export, import and deletion of an owner's sessions, in Python and over HTTP, also after an interruption."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from flask_convstore import ANY, InvalidInput, Message, SessionNotFound, StoreUnavailable, TooManySessions, Turn
from flask_convstore.domain.clock import LATEST_MS, as_milliseconds
from flask_convstore.domain.ids import id_made_away, new_id
from flask_convstore.domain.messages import Usage
from flask_convstore.operations import aliases, messages, owners, transfer, updates
from flask_convstore.outages.fallback import FallbackStore

from ..harness import SETTINGS, AwayAfter, Harness, PlainConversations, RedisHarness
from ..processes import wait_for
from ..servers import Server
from ..service import OwnedService, in_memory, problem

LINES = "application/x-ndjson"


def say(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def fill(conversations: Any) -> None:
    """One session of each form."""
    save = conversations.save_session
    save("full", {"a": [1, None], "history": [say("hi"), say("hello", "assistant")]}, ttl=5000, owner="alice")
    save("data", {"a": 1}, owner="alice")
    save("list", ["x", 7, None], owner="alice")
    save("empty", {"history": []}, owner="alice")
    save("bobs", {"history": [say("secret")]}, owner="bob")
    append = conversations.append
    append("full", Message(say("q"), {"lang": "en"}, tokens=Usage(12, 30)), data={"complete": False}, owner="alice")


def rich(conversations: PlainConversations) -> None:
    fill(conversations)
    messages.edit(conversations.access("alice"), "full", 1, say("hi!"), keep=True)
    messages.redact(conversations.access("alice"), "full", 2)
    updates.update(conversations.access("alice"), "data", title="Ünï")


def shown(conversations: PlainConversations, owner: str = "alice") -> dict[str, Any]:
    """All facts that an import shall restore."""
    found = {}
    for summary in conversations.list_sessions(limit=1000, owner=owner).sessions:
        session = conversations.get_session(summary.session_id, owner=owner)
        assert session is not None
        content = dict(session) if isinstance(session, dict) else list(session)
        facts = [
            (m.seq, m.created_at_ms, m.metadata, m.status, m.tokens, m.edited_at_ms, m.edits) for m in session.messages
        ]
        lifetime = round((session.expires_at - session.updated_at).total_seconds(), -2)
        found[summary.session_id] = (content, facts, session.title, session.usage, lifetime)
    return found


def test_an_export_can_be_imported(conversations: PlainConversations) -> None:
    rich(conversations)
    before = shown(conversations)
    lines = [json.dumps(line) for line in transfer.export(conversations.access("alice"))]
    assert not any("secret" in line for line in lines)
    deleted, is_all = owners.delete(conversations.access("alice"))
    assert (deleted, is_all, shown(conversations)) == (4, True, {})
    assert conversations.get_session("bobs", owner="bob") is not None
    for imported in (4, 0):
        assert transfer.take_in(conversations.access("alice"), map(json.loads, lines)) == imported
        assert shown(conversations) == before
    assert owners.usage(conversations.access("alice")) == (12, 30)


def test_export_is_no_interaction(harness: Harness, conversations: PlainConversations) -> None:
    fill(conversations)
    harness.age(1000_000)
    before = harness.ends("data")
    list(transfer.export(conversations.access("alice")))
    assert harness.ends("data") == before


def test_an_import_leaves_existing_sessions_as_they_are(conversations: PlainConversations) -> None:
    fill(conversations)
    lines = list(transfer.export(conversations.access("alice")))
    conversations.save_session("data", {"newer": True}, owner="alice")
    assert transfer.take_in(conversations.access("alice"), lines) == 0
    assert conversations.get_session("data", owner="alice") == {"newer": True}


def test_an_import_does_not_take_another_owners_id(conversations: PlainConversations) -> None:
    fill(conversations)
    lines = [{**line, "session_id": "bobs"} for line in transfer.export(conversations.access("alice"))][:1]
    for count in (1, 0):
        imported = transfer.take_in(conversations.access("alice"), lines)
        assert (imported, imported.existing, imported.failed) == (count, 1 - count, [])
        (renamed,) = imported.renamed.items()
        assert renamed[0] == "bobs"
        session = conversations.get_session(renamed[1], owner="alice")
        assert session is not None
        assert [message.body for message in session.messages] == [message["body"] for message in lines[0]["messages"]]
    assert conversations.get_session("bobs", owner="bob") == {"history": [say("secret")]}
    assert conversations.get_session("bobs", owner="alice") is None


def line_of(number: int, **more: Any) -> dict[str, Any]:
    """A line of an export whose session was last written long ago, the later the higher *number* is."""
    at = 1_600_000_000_000 + number * 1000
    made = {"created_at_ms": at - 500, "updated_at_ms": at}
    return {"session_id": f"old{number}", "shape": "data", "data": {"n": number}, "messages": [], **made, **more}


def with_quota(conversations: PlainConversations, harness: Harness, most: int) -> PlainConversations:
    store: Any = harness.store
    store._limits = replace(store._limits, max_sessions=most)
    return PlainConversations(harness.store, replace(SETTINGS, max_sessions=most))


def test_an_import_evicts_nothing(harness: Harness, conversations: PlainConversations) -> None:
    """It takes the free places, the newest first. Whatever finds no place is told, also at a repeat."""
    few = with_quota(conversations, harness, 10)
    own = [f"own{number}" for number in range(6)]
    for session_id in own:
        few.save_session(session_id, {}, owner="alice")
        harness.age(1)
    for count in (4, 0):
        imported = transfer.take_in(few.access("alice"), [line_of(number) for number in range(12)])
        assert (imported, imported.existing) == (count, 4 - count)
        assert [(one.line, one.session_id) for one in imported.failed] == [(n + 1, f"old{n}") for n in range(8)]
        assert all(isinstance(one.error, TooManySessions) for one in imported.failed)
        listed = [summary.session_id for summary in few.list_sessions(limit=100, owner="alice").sessions]
        assert listed == [*reversed(own), "old11", "old10", "old9", "old8"]
    few.save_session("next", {}, owner="alice")
    assert few.get_session("old8", owner="alice") is None, "the oldest goes first, as ever"
    assert few.get_session("own0", owner="alice") is not None


def test_a_line_without_a_place_leaves_nothing(harness: Harness, conversations: PlainConversations) -> None:
    few = with_quota(conversations, harness, 1)
    few.save_session("own", {}, owner="alice")
    few.save_session("old1", {}, owner="bob")
    assert len(transfer.take_in(few.access("alice"), [line_of(1)]).failed) == 1
    assert harness.store.traces("alice").aliases == []


def test_an_import_keeps_times_and_order(harness: Harness, conversations: PlainConversations) -> None:
    numbers = [3, 1, 4, 0, 2]
    moment = harness.moment()
    with moment:
        assert transfer.take_in(conversations.access("alice"), map(line_of, numbers)) == 5
    listed = conversations.list_sessions(limit=100, owner="alice").sessions
    assert [summary.session_id for summary in listed] == [f"old{number}" for number in (4, 3, 2, 1, 0)]
    for number, summary in enumerate(reversed(listed)):
        session = conversations.get_session(summary.session_id, owner="alice")
        assert session is not None
        for shown in (summary, session):
            times = [as_milliseconds(time) for time in (shown.created_at, shown.updated_at)]
            assert times == [line_of(number)["created_at_ms"], line_of(number)["updated_at_ms"]]
        assert as_milliseconds(session.expires_at) - 3_600_000 >= moment.began
    again = {line["session_id"]: line for line in transfer.export(conversations.access("alice"))}
    assert {name: line["created_at_ms"] for name, line in again.items()} == {
        f"old{number}": line_of(number)["created_at_ms"] for number in numbers
    }
    state = conversations.get_session("old0", owner="alice")
    conversations.delete_session("old0", owner="alice")
    transfer.take_in(conversations.access("alice"), [line_of(0)])
    assert state is not None
    state["late"] = True
    with pytest.raises(SessionNotFound):
        conversations.save_session("old0", state, owner="alice")


def test_a_time_to_come_is_now(harness: Harness, conversations: PlainConversations) -> None:
    later = LATEST_MS - 1
    moment = harness.moment()
    with moment:
        transfer.take_in(conversations.access("alice"), [line_of(0, created_at_ms=later, updated_at_ms=later)])
    session = conversations.get_session("old0", owner="alice")
    assert session is not None
    assert as_milliseconds(session.created_at) in moment
    assert as_milliseconds(session.updated_at) in moment


def test_each_line_stands_for_itself(conversations: PlainConversations) -> None:
    """A title with a control character, which early versions made from a message, is no reason to refuse one."""
    lines = [
        line_of(0),
        {"x": 1},
        line_of(1, title="a\x1b[31m\nb"),
        {**line_of(2), "corrupt": True},
        line_of(3, shape="?"),
    ]
    imported = transfer.take_in(conversations.access("alice"), lines)
    assert imported == 2
    assert [(one.line, one.session_id) for one in imported.failed] == [(2, None), (4, "old2"), (5, "old3")]
    session = conversations.get_session("old1", owner="alice")
    assert session is not None
    assert session.title == "a [31m b"
    with pytest.raises(InvalidInput, match=r"line 1.*1 more") as caught:
        transfer.take_in(conversations.access("alice"), [{"x": 1}, {"y": 1}])
    assert caught.value.written is False


def test_a_title_of_a_message_has_no_control_characters(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [say("a\x00b \x1b[0m c")]}, owner="alice")
    (summary,) = conversations.list_sessions(owner="alice").sessions
    assert summary.title == "a b  [0m c"


@pytest.mark.slow
def test_an_interrupted_export_goes_on(conversations: PlainConversations, harness: Harness) -> None:
    store: Any = harness.store
    store._limits = replace(store._limits, max_sessions=0)
    for number in range(230):
        conversations.save_session(f"s{number}", {"n": number}, owner="alice")
        if isinstance(harness, RedisHarness):
            continue
        harness.age(1)
    if isinstance(harness, RedisHarness):  # or one millisecond may have hundreds
        index = "chat:session:owner:{alice}"
        harness.client.zadd(index, {f"s{number}": 1_700_000_000_000 + number for number in range(230)})
    seen, cursor = [], None
    for line in transfer.export(conversations.access("alice")):
        seen.append(line["session_id"])
        if "cursor" in line:
            cursor = line["cursor"]
            break
    assert len(seen) == 100
    conversations.delete_session(seen[5], owner="alice")
    rest = [line["session_id"] for line in transfer.export(conversations.access("alice"), after=cursor)]
    assert sorted(seen + rest) == sorted(f"s{number}" for number in range(230))
    for foreign in ("x", "", "1; --", "٣"):
        if isinstance(harness, RedisHarness) and foreign:
            with pytest.raises(InvalidInput):
                list(transfer.export(conversations.access("alice"), after=foreign))


def test_an_interrupted_deletion_goes_on(conversations: PlainConversations) -> None:
    for number in range(30):
        conversations.save_session(f"s{number}", {}, owner="alice")
    assert owners.delete(conversations.access("alice"), seconds=-1) == (0, False)
    store: Any = conversations.backend.store
    calls, apply = iter(range(10)), store.apply

    def dying(command: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return apply(command)

    store.apply = dying
    with pytest.raises(KeyboardInterrupt):
        owners.delete(conversations.access("alice"))
    del store.apply
    assert len(shown(conversations)) == 20
    assert owners.delete(conversations.access("alice")) == (20, True)
    assert owners.delete(conversations.access("alice")) == (0, True)


@pytest.mark.parametrize(
    ("writes", "lost", "written"), [(1, False, True), (1, None, True), (0, False, False), (0, None, None)]
)
def test_an_interrupted_operation_tells_if_anything_was_written(
    conversations: PlainConversations, writes: int, lost: bool | None, written: bool | None
) -> None:
    """Some sessions were written. The next one was not, or nobody knows."""
    fill(conversations)
    lines = list(transfer.export(conversations.access("alice")))
    away = PlainConversations(AwayAfter(conversations.backend.store, writes, lost))
    with pytest.raises(StoreUnavailable) as caught:
        owners.delete(away.access("alice"))
    assert caught.value.written is written
    away = PlainConversations(AwayAfter(conversations.backend.store, writes, lost))
    with pytest.raises(StoreUnavailable) as caught:
        away.delete_owner(owner="alice")
    assert caught.value.written is written
    owners.delete(conversations.access("alice"))
    away = PlainConversations(AwayAfter(conversations.backend.store, writes, lost))
    with pytest.raises(StoreUnavailable) as caught:
        transfer.take_in(away.access("alice"), [{**line, "session_id": new_id()} for line in lines])
    assert caught.value.written is written


def test_nothing_of_a_deleted_owner_is_left(conversations: PlainConversations, harness: Harness) -> None:
    rich(conversations)
    aliases.link(conversations.access("alice"), "web:1", "full")
    updates.share(conversations.access("alice"), "full", "bob", "reader")
    owners.delete(conversations.access("alice"))
    assert aliases.resolve(conversations.access("alice"), "web:1") is None
    assert conversations.get_session("full", owner="bob") is None
    if isinstance(harness, RedisHarness):
        client: Any = harness.client
        kept = {key for key in client.scan_iter() if b"bobs" not in key and b"{bob}" not in key}
        tombstones = {b"chat:session:{%b}:tokens" % name for name in (b"full", b"data", b"list", b"empty")}
        assert kept == {*tombstones, b"chat:session:owner:{alice}:forgotten"}
        assert all(0 < client.pttl(key) <= 86_400_000 for key in tombstones), "receipts, for a day"


def test_a_corrupt_session_spoils_no_other(server: Server) -> None:
    conversations = PlainConversations(RedisHarness(server.client).store)
    fill(conversations)
    server.client.rpush("chat:session:{full}:history", "not ours")
    server.client.hset("chat:session:{list}", "shape", "round")
    lines = list(transfer.export(conversations.access("alice")))
    assert sorted(line["session_id"] for line in lines if line.get("corrupt")) == ["full", "list"]
    assert len(lines) == 4
    assert owners.delete(conversations.access("alice")) == (4, True)
    assert transfer.take_in(conversations.access("alice"), lines) == 2


GOOD = {
    "session_id": "2f1c0000-0000-4000-8000-00000000000a",
    "shape": "full",
    "title": "t",
    "ttl_ms": 5_000_000,
    "tokens": {"input": 1, "output": 2},
    "data": {"a": 1},
    "messages": [{"seq": 1, "created_at_ms": 1_700_000_000_000, "body": say("hi")}],
}


def with_message(**more: Any) -> dict[str, Any]:
    return {**GOOD, "messages": [{**GOOD["messages"][0], **more}]}  # type: ignore[index]


BAD: list[Any] = [
    {},
    [],
    "x",
    {**GOOD, "session_id": ""},
    {**GOOD, "session_id": "x" * 201},
    {**GOOD, "session_id": "export"},
    {**GOOD, "session_id": 7},
    {**GOOD, "shape": "value"},
    {**GOOD, "shape": "data"},
    {**GOOD, "shape": None},
    {**GOOD, "title": "a\nb"},
    {**GOOD, "title": 5},
    {**GOOD, "title": "x" * 300},
    {**GOOD, "tokens": {"input": "x", "output": 1}},
    {**GOOD, "tokens": {"input": -1, "output": 1}},
    {**GOOD, "tokens": {"input": 2**62, "output": 1}},
    {**GOOD, "tokens": {"more": 1}},
    {**GOOD, "tokens": [1, 2, 3]},
    {**GOOD, "data": []},
    {**GOOD, "data": {"history": []}},
    {**GOOD, "messages": {}},
    {**GOOD, "messages": ["x"]},
    {**GOOD, "messages": [{"body": "x"}]},
    with_message(created_at_ms="soon"),
    with_message(created_at_ms=10**18),
    with_message(created_at_ms=-1),
    with_message(created_at_ms=1e300),
    with_message(created_at_ms=True),
    with_message(edited_at_ms="x"),
    with_message(edited_at_ms=10**18),
    with_message(status={"a": 1}),
    with_message(status="great"),
    with_message(status='x","at":"'),
    with_message(metadata=[1]),
    with_message(metadata="x"),
    with_message(edits="abc"),
    with_message(tokens={"input": 1.5, "output": 0}),
    with_message(tokens={"input": 2**60, "output": 0}),
    with_message(tokens="12"),
]


@in_memory
@pytest.mark.parametrize("line", BAD)
def test_foreign_lines_are_refused(url: str, line: Any) -> None:
    service = OwnedService(url, CLIENT_TTL=True)
    body = json.dumps(GOOD | {"session_id": new_id()}) + "\n" + json.dumps(line)
    response = service.call("alice", "POST", "/import", data=body.encode(), content_type=LINES)
    if line == {**GOOD, "title": "a\nb"}:
        assert response.json == {"imported": 2, "complete": True}
    else:
        answer = service.json(response, 200)
        assert (answer["imported"], answer["failed_count"], answer["failed"][0]["line"]) == (1, 1, 2)
        alone = service.call("alice", "POST", "/import", data=json.dumps(line).encode(), content_type=LINES)
        problem(alone, 422, "invalid")
    for session in service.call("alice", "GET").json["sessions"]:  # type: ignore[index]
        assert service.call("alice", "GET", f"/{session['session_id']}").status_code == 200
    assert service.call("alice", "GET", "/export").status_code == 200


@in_memory
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", LINES, 400),
        (b'{"a": 1, "a": 2}', LINES, 400),
        (b"[" * 100_000, LINES, 400),
        (json.dumps(GOOD).encode(), "text/plain", 415),
        (json.dumps(GOOD).encode(), None, 415),
        (json.dumps(GOOD).encode(), LINES, 200),
        (json.dumps(GOOD).encode(), "application/json", 200),
        (b"\n\n", LINES, 200),
    ],
)
def test_bodies_of_an_import(url: str, body: bytes, content_type: str | None, status: int) -> None:
    service = OwnedService(url)
    assert service.call("alice", "POST", "/import", data=body, content_type=content_type).status_code == status


def test_an_export_can_be_imported_over_http(url: str) -> None:
    service = OwnedService(url, CLIENT_TTL=True)
    with service.app.app_context():
        convstore = service.convstore
        fill(convstore)
        convstore.append("full", say("behind the scenes", "system"), owner="alice")
        convstore.edit_message("full", 3, say("shown now"), keep=True, owner="alice")
    response = service.call("alice", "GET", "/export")
    assert (response.status_code, response.mimetype) == (200, LINES)
    assert response.headers["Cache-Control"] == "no-store"
    exported = response.data
    assert b"secret" not in exported
    assert b"behind the scenes" not in exported
    listed = service.json(service.call("alice", "GET"), 200)["sessions"]
    ids = [session["session_id"] for session in listed]
    before = {session_id: service.call("alice", "GET", f"/{session_id}").json for session_id in ids}
    assert service.json(service.call("alice", "DELETE"), 200) == {"deleted": 4, "complete": True}
    for imported in (4, 0):
        answer = service.json(service.call("alice", "POST", "/import", data=exported, content_type=LINES), 200)
        assert answer == {"imported": imported, "complete": True}
    for session_id, was in before.items():
        now = service.call("alice", "GET", f"/{session_id}").json
        assert now
        assert was
        assert (now["data"], now["title"], now.get("tokens")) == (was["data"], was["title"], was.get("tokens"))
        assert now["history"] == was["history"]
    assert service.call("bob", "GET", "/full").status_code == 404


def test_hidden_earlier_bodies_are_not_exported(url: str) -> None:
    service = OwnedService(url)
    with service.app.app_context():
        service.convstore.save_session("s", {"history": [say("hidden", "system")]}, owner="alice")
        service.convstore.edit_message("s", 1, say("shown"), keep=True, owner="alice")
        assert "hidden" in str(list(service.convstore.export_owner(owner="alice")))
    assert b"hidden" not in service.call("alice", "GET", "/export").data


@in_memory
@pytest.mark.parametrize(
    ("config", "changed", "status"),
    [
        ({}, with_message(body=say("x", "system")), 422),
        ({}, with_message(body=say("x", "developer")), 422),
        ({}, with_message(body={"role": {}, "content": "x"}), 422),
        ({}, with_message(body=say("x", "assistant")), 200),
        ({"CLIENT_ROLES": ("user", "system")}, with_message(body=say("x", "system")), 200),
        ({"VISIBLE_ROLES": ("user",)}, with_message(body=say("x", "assistant")), 422),
        ({"CLIENT_DATA": False}, GOOD, 422),
        ({"CLIENT_DATA": ("b",)}, GOOD, 422),
        ({"CLIENT_DATA": ("a",)}, GOOD, 200),
        ({"CLIENT_DATA": False}, {**GOOD, "data": {}}, 200),
    ],
)
def test_clients_import_only_messages_that_they_may_write(
    url: str, config: dict[str, Any], changed: Any, status: int
) -> None:
    service = OwnedService(url, **config)
    response = service.call("alice", "POST", "/import", data=json.dumps(changed).encode(), content_type=LINES)
    assert response.status_code == status, response.data
    assert len(service.call("alice", "GET").json["sessions"]) == (status == 200)  # type: ignore[index]


@pytest.mark.parametrize("may", [False, True])
def test_a_lifetime_is_imported_if_clients_may_set_one(url: str, may: bool) -> None:
    service = OwnedService(url, CLIENT_TTL=may)
    service.call("alice", "POST", "/import", data=json.dumps(GOOD).encode(), content_type=LINES)
    with service.app.app_context():
        session = service.convstore.get_session(str(GOOD["session_id"]), owner=ANY)
    assert session is not None
    assert round((session.expires_at - session.updated_at).total_seconds(), -2) == (5000 if may else 3600)


def test_no_import_takes_an_id_that_others_rely_on(url: str) -> None:
    """A client cannot take ids that apps choose, and ids that can be foreseen."""
    service = OwnedService(url)
    taken = ["user:bob", "bob", "health2", "2F1C0000-0000-4000-8000-00000000000A", id_made_away()]
    lines = "\n".join(json.dumps({**GOOD, "session_id": session_id}) for session_id in taken)
    for imported in (5, 0):
        answer = service.call("mallory", "POST", "/import", data=lines.encode(), content_type=LINES)
        told = service.json(answer, 200)
        assert (told["imported"], told["complete"], sorted(told["renamed"])) == (imported, True, sorted(taken))
    for session_id in taken:
        assert service.call("mallory", "GET", f"/{session_id}").status_code in (404, 503), "503: it may be in a journal"
        with service.app.app_context():
            service.convstore.save_session(session_id, {"bobs": True}, owner="bob")
    assert len(service.call("mallory", "GET").json["sessions"]) == 5  # type: ignore[index]


def test_no_import_passes_the_quota(valkey: Server) -> None:
    """Nor does one reach a journal by a false id, which claims that it was made while the store was away."""
    service = OwnedService(valkey.url, MAX_SESSIONS=3)
    lines = "\n".join(json.dumps({**GOOD, "session_id": id_made_away()}) for _ in range(8))
    answer = service.call("mallory", "POST", "/import", data=lines.encode(), content_type=LINES)
    told = service.json(answer, 200)
    assert (told["imported"], told["complete"], told["failed_count"]) == (3, True, 5)
    assert "may have no more" in told["failed"][0]["detail"]
    with service.app.app_context():
        assert service.convstore.health().pending == 0
        store: Any = service.convstore._access().backend.store
        while store and not isinstance(store, FallbackStore):
            store = getattr(store, "_store", None)
        assert store is None or not store._journal.may_hold()
    assert len(service.call("mallory", "GET").json["sessions"]) == 3  # type: ignore[index]


def test_an_export_over_http_goes_on_by_its_cursor(valkey: Server) -> None:
    service = OwnedService(valkey.url, MAX_SESSIONS=0)
    with service.app.app_context():
        for number in range(150):
            service.convstore.save_session(f"s{number}", {"n": number}, owner="alice")
    client: Any = redis.Redis.from_url(valkey.url)
    client.zadd("chat:session:owner:{alice}", {f"s{number}": 1_700_000_000_000 + number for number in range(150)})
    lines = [json.loads(line) for line in service.call("alice", "GET", "/export").data.splitlines()]
    assert len(lines) == 150
    (cursor,) = (line["cursor"] for line in lines if "cursor" in line)
    rest = service.call("alice", "GET", f"/export?cursor={cursor}").data.splitlines()
    assert [json.loads(line)["session_id"] for line in rest] == [line["session_id"] for line in lines[100:]]
    client.close()


def test_an_export_that_fails_at_once_is_a_problem(valkey: Server) -> None:
    service = OwnedService("redis://127.0.0.1:1/0", BUDGET=0.2)
    problem(service.call("alice", "GET", "/export"), 503, "unavailable")


@pytest.mark.slow
def test_retention(url: str) -> None:
    """No interaction keeps a session longer than ``CONVSTORE_MAX_AGE``."""
    service = OwnedService(url, MAX_AGE=1, TTL=1000)
    session_id = service.json(service.call("alice", "POST", json={}), 201)["session_id"]
    wait_for(lambda: service.call("alice", "GET", f"/{session_id}").status_code == 404, "it does not expire")
    assert service.call("alice", "GET").json["sessions"] == []  # type: ignore[index]


def lines_of(count: int) -> list[dict[str, Any]]:
    return [{**GOOD, "session_id": str(uuid.UUID(int=number, version=4))} for number in range(1, count + 1)]


def test_an_import_has_at_most_so_many_sessions(url: str) -> None:
    """Each costs a round trip. Neither a session nor a line that is blank is looked at before they are counted."""
    service = OwnedService(url)
    for body in ("\n".join(map(json.dumps, lines_of(1001))), "\n" * 1_000_000, "{\n" * 1001):
        found = problem(
            service.call("alice", "POST", "/import", data=body.encode(), content_type=LINES), 413, "too-large"
        )
        assert (found["limit"], found["written"]) == (1000, False)
    assert service.call("alice", "GET").json == {"sessions": [], "next": None}


@pytest.mark.parametrize("most", [0, 50])
def test_an_import_ends_in_time_and_goes_on_when_it_is_sent_again(
    url: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = OwnedService(url, MAX_SESSIONS=most)
    body = "\n".join(map(json.dumps, lines_of(10))).encode()
    take, now = transfer._Import.take, [0.0]

    def take_three(*arguments: Any) -> None:
        take(*arguments)
        now.append(10.0 if len(now) > 2 else 0.0)

    monkeypatch.setattr(transfer._Import, "take", take_three)
    monkeypatch.setattr("flask_convstore.operations.owners.monotonic", lambda: now[-1])
    answer = service.json(service.call("alice", "POST", "/import", data=body, content_type=LINES), 200)
    assert answer == {"imported": 3, "complete": False}
    monkeypatch.undo()
    answer = service.json(service.call("alice", "POST", "/import", data=body, content_type=LINES), 200)
    assert answer == {"imported": 7, "complete": True}


@pytest.mark.parametrize("most", [0, 50])
@pytest.mark.parametrize("messages", [[1] * 10, [3500]], ids=["many lines", "one line"])
def test_an_import_that_cannot_be_read_in_time_is_refused(
    url: str, most: int, messages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To send the same again would take as long. It is looked at the time within a line, too."""
    service = OwnedService(url, MAX_SESSIONS=most)
    lines = [{**with_message(body=say("hi")), "session_id": str(uuid.uuid4())} for _ in messages]
    for line, count in zip(lines, messages, strict=True):
        line["messages"] *= count
    body = "\n".join(map(json.dumps, lines)).encode()
    moments = itertools.count(0.0, 0.9)
    monkeypatch.setattr("flask_convstore.operations.owners.monotonic", lambda: next(moments))
    if most or len(messages) == 1:
        answer = service.call("alice", "POST", "/import", data=body, content_type=LINES)
        assert "Import fewer" in problem(answer, 503, "too-slow")["detail"]
        assert service.call("alice", "GET").json == {"sessions": [], "next": None}
    else:
        answer = service.call("alice", "POST", "/import", data=body, content_type=LINES)
        assert service.json(answer, 200) == {"imported": 1, "complete": False}


def test_an_export_ends_in_time_behind_a_cursor(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the next session, since each may be large."""
    service = OwnedService(url, MAX_SESSIONS=0)
    body = "\n".join(map(json.dumps, lines_of(30))).encode()
    service.json(service.call("alice", "POST", "/import", data=body, content_type=LINES), 200)
    monkeypatch.setattr("flask_convstore.http.owner_views._EXPORTING_SECONDS", -1)
    seen: list[str] = []
    query, parts = "", 0
    while parts == 0 or query:
        lines = [json.loads(line) for line in service.call("alice", "GET", f"/export{query}").data.splitlines()]
        seen += [line["session_id"] for line in lines]
        query, parts = (f"?cursor={lines[-1]['cursor']}" if "cursor" in lines[-1] else ""), parts + 1
    assert (len(set(seen)), len(seen), parts > 1) == (30, 30, True)


def test_an_export_that_ends_in_time_leaves_out_nobody_who_was_active(
    conversations: PlainConversations, harness: Harness
) -> None:
    """The place of a session that was active since is another one's now."""
    for number in range(6):
        conversations.save_session(f"s{number}", {"n": number}, owner="alice")
        harness.age(100_000)
    access = conversations.access("alice")
    conversations.get_session("s0", owner="alice")
    if isinstance(harness, RedisHarness):  # whose index hears of it once a minute
        actives = {f"s{number}": 1_700_000_000_000 + (number or 6) for number in range(6)}
        harness.client.zadd("chat:session:owner:{alice}", actives)
    assert transfer._cursor_behind(access, None, {"s0"}) is None
    behind = transfer._cursor_behind(access, None, {"s0", "s1"})
    rest = [line["session_id"] for line in transfer.export(access, after=behind)]
    assert rest == ["s2", "s3", "s4", "s5", "s0"]


def test_the_deepest_value_that_is_exported_can_be_imported(url: str) -> None:
    value: Any = 0
    for _ in range(99):
        value = [value]
    line = {**with_message(body=say(value)), "data": {"a": [value]}}
    service = OwnedService(url)
    body = json.dumps(line).encode()
    assert service.json(service.call("alice", "POST", "/import", data=body, content_type=LINES), 200)["imported"] == 1


@in_memory
def test_a_reply_that_was_stopped_comes_back(url: str) -> None:
    """The line was refused, with the whole conversation."""
    service = OwnedService(url)
    stopped = threading.Event()

    @service.convstore.reply
    def reply(turn: Turn) -> Iterator[str]:
        yield "On its way"
        stopped.wait(10)
        yield "never told"

    session_id = service.json(service.call("alice", "POST", json={}), 201)["session_id"]
    path, events = f"/{session_id}/messages", {"Accept": "text/event-stream"}
    lines = iter(service.call("alice", "POST", path, json={"content": "hi"}, headers=events).response)
    assert any("event: delta" in str(line) for line in lines)
    ended = service.json(service.call("alice", "DELETE", f"/{session_id}/replies/current"), 200)
    assert (ended["status"], ended["reply"]["content"]) == ("stopped", "On its way")
    stopped.set()
    assert "event: done" in str([*lines])
    exported = service.call("alice", "GET", "/export").data
    before = service.json(service.call("alice", "GET", f"/{session_id}"), 200)["history"]
    assert [message.get("status") for message in before] == [None, "stopped"]
    service.call("alice", "DELETE")
    imported = service.call("alice", "POST", "/import", data=exported, content_type=LINES)
    assert service.json(imported, 200)["imported"] == 1
    assert service.json(service.call("alice", "GET", f"/{session_id}"), 200)["history"] == before
