"""Changes of fields, title, lifetime and stored messages. Pages and token counts."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from flask_convstore import ConflictError, InvalidInput, Message, SessionNotFound, TooLarge
from flask_convstore.domain.commands import Edit
from flask_convstore.domain.messages import Usage
from flask_convstore.domain.types import ANY
from flask_convstore.errors import MessageNotFound, TokenReused
from flask_convstore.operations import branching, messages, owners, transfer, updates
from flask_convstore.operations.turns import begin
from flask_convstore.stores.store import StoreAround

from ..harness import Harness, PlainConversations, RedisHarness, in_memory
from ..servers import Server
from ..service import OwnedService, Service, problem
from ..wire import Proxy

SECRET = "my number is 4711"


def say(content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.fixture
def talk(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session(
        "s", {"a": 1, "b": 2, "history": [say(SECRET), say("noted", "assistant")]}, owner="alice"
    )
    return conversations


def get(conversations: PlainConversations, session_id: str = "s") -> Any:
    session = conversations.get_session(session_id, owner=ANY)
    assert session is not None
    return session


def everything(conversations: PlainConversations, harness: Harness) -> str:
    """All stored values, as text."""
    if isinstance(harness, RedisHarness):
        client: Any = harness.client
        found = []
        for key in client.scan_iter():
            kind = client.type(key)
            read = {b"hash": client.hgetall, b"zset": lambda k: client.zrange(k, 0, -1), b"string": client.get}
            found.append((key, client.lrange(key, 0, -1) if kind == b"list" else read[kind](key)))
        return repr(found)
    store: Any = harness.store
    return repr((store._sessions, store._tokens, store._aliases))


# ---- update


def test_update_sets_and_removes(talk: PlainConversations) -> None:
    receipt = updates.update(
        talk.access("alice"), "s", {"a": [1], "c": None}, removed=("b", "absent"), title="T", ttl=5000
    )
    session = get(talk)
    assert {name: value for name, value in session.items() if name != "history"} == {"a": [1], "c": None}
    assert (session.title, session.version, receipt.version) == ("T", 2, 2)
    assert round((session.expires_at - session.updated_at).total_seconds(), -1) == 5000
    assert len(session["history"]) == 2
    updates.update(talk.access("alice"), "s", title="")
    assert get(talk).title is None
    updates.update(talk.access("alice"), "s", title=None)
    assert get(talk)["a"] == [1]


def test_update_is_all_or_nothing(talk: PlainConversations) -> None:
    for options, error in (
        ({"data": {"a": object()}}, InvalidInput),
        ({"data": {"a": 5}, "title": "x" * 201}, InvalidInput),
        ({"data": {"a": 5}, "title": "a\nb"}, InvalidInput),
        ({"data": {"a": 5}, "ttl": 0}, InvalidInput),
        ({"data": {"a": "x" * 2_000_000}}, TooLarge),
        ({"data": {"history": []}}, InvalidInput),
        ({"data": {"a": 5}, "expected": "7"}, ConflictError),
    ):
        with pytest.raises(error):
            updates.update(talk.access("alice"), "s", **options)
    assert (get(talk)["a"], get(talk).version) == (1, 1)
    with pytest.raises(SessionNotFound):
        updates.update(talk.access("alice"), "absent", {"a": 1})


def test_update_over_http(url: str) -> None:
    service = Service(url, CLIENT_TTL=True, CLIENT_DATA=("a", "b"))
    session_id = service.start(data={"a": 1, "b": 2})
    path = f"/sessions/{session_id}"
    tag = service.client.get(path).headers["ETag"]
    response = service.client.patch(
        path, json={"data": {"a": None, "b": 3}, "title": "T", "ttl": 5000}, headers={"If-Match": tag}
    )
    shown = service.json(response, 200)
    assert "history" not in shown
    assert (shown["data"], shown["title"], shown["version"]) == ({"b": 3}, "T", 2)
    assert response.headers["ETag"] == service.client.get(path).headers["ETag"] != tag
    problem(service.client.patch(path, json={"title": "U"}, headers={"If-Match": tag}), 412, "precondition-failed")
    problem(service.client.patch(path, json={"data": {"c": 1}}), 422, "invalid")
    problem(service.client.patch(path, json={"data": {"b": 4}, "version": 9}), 422, "invalid")
    for ttl in (0, -1, "5", True, 10**12):
        problem(service.client.patch(path, json={"ttl": ttl, "data": {"b": 5}}), 422, "invalid")
    assert service.get(session_id)["data"] == {"b": 3}
    assert service.json(service.client.patch(path, json={"title": None}), 200)["title"] is None
    problem(Service(url).client.patch(path, json={"ttl": 5}), 422, "invalid")


# ---- titles


@in_memory
@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("  Hello\n there ", "Hello there"),
        ("x" * 100, "x" * 59 + "…"),
        ([{"type": "text", "text": "look"}, {"type": "image_url"}, {"type": "text", "text": "here"}], "look here"),
        ("", None),
        ([{"type": "image_url"}], None),
    ],
)
def test_the_first_user_message_is_the_title(
    conversations: PlainConversations, content: Any, title: str | None
) -> None:
    conversations.save_session("s", {"history": [say("Be kind", "system")]})
    assert get(conversations).title is None
    conversations.append("s", say(content))
    assert get(conversations).title == title
    conversations.append("s", say("second"))
    assert get(conversations).title == title or (title is None and get(conversations).title == "second")


def test_a_given_title_stays(conversations: PlainConversations) -> None:
    conversations.save_session("s", [])
    updates.update(conversations.access(), "s", title="Mine")
    conversations.append("s", say("first"))
    begin(conversations.access(), "s", say("second"))
    messages.edit(conversations.access(), "s", 1, say("edited"))
    messages.redact(conversations.access(), "s", 1)
    assert get(conversations).title == "Mine"


def test_a_title_follows_its_message(talk: PlainConversations) -> None:
    assert get(talk).title == SECRET
    messages.edit(talk.access(), "s", 1, say("something else"))
    assert get(talk).title == "something else"
    messages.edit(talk.access(), "s", 2, say("noted!", "assistant"))
    assert get(talk).title == "something else"


# ---- edit


def test_an_edited_message_keeps_its_place(talk: PlainConversations) -> None:
    talk.append("s", Message(say("third"), {"lang": "en"}, tokens=Usage(5, 0)), owner="alice")
    before = get(talk).messages[2]
    edited, receipt = messages.edit(talk.access("alice"), "s", 3, say("3rd"))
    after = get(talk).messages[2]
    assert edited == after
    assert (after.seq, after.created_at_ms, after.metadata, after.tokens) == (
        3,
        before.created_at_ms,
        {"lang": "en"},
        (5, 0),
    )
    assert (after.body, after.edits, after.status) == (say("3rd"), (), None)
    assert before.edited_at is None
    assert after.edited_at
    assert after.edited_at >= after.created_at
    assert receipt.version == get(talk).version == 3
    assert get(talk).usage == (5, 0)
    assert get(talk)["history"][2] == say("3rd")


def test_a_message_may_be_given_as_the_body(talk: PlainConversations) -> None:
    edited, _ = messages.edit(talk.access("alice"), "s", 1, Message(say("better"), {"by": "me"}))
    assert (edited.body, edited.metadata) == (say("better"), {"by": "me"})
    edited, _ = messages.edit(talk.access("alice"), "s", 1, Message(say("best")), metadata={"by": "you"})
    assert (edited.body, edited.metadata) == (say("best"), {"by": "you"})


def test_the_old_body_is_kept_if_wanted(talk: PlainConversations) -> None:
    for text in ("one", "two"):
        messages.edit(talk.access(), "s", 1, say(text), keep=True, metadata={"n": text})
    message = get(talk).messages[0]
    assert message.edits == (say(SECRET), say("one"))
    assert message.metadata == {"n": "two"}
    messages.edit(talk.access(), "s", 1, say("three"))
    assert get(talk).messages[0].edits == (say(SECRET), say("one"))


@in_memory
@pytest.mark.parametrize("seq", [0, -1, 3, 2**53 + 1, True, "1", None, 1.0])
def test_only_existing_messages_can_be_edited(talk: PlainConversations, seq: Any) -> None:
    changes: list[Any] = [
        lambda: messages.edit(talk.access(), "s", seq, "x"),
        lambda: messages.redact(talk.access(), "s", seq),
    ]
    for change in changes:
        with pytest.raises(MessageNotFound if seq == 3 and seq is not True else (InvalidInput, MessageNotFound)):
            change()
    assert get(talk).version == 1


def test_too_large_an_edit_changes_nothing(talk: PlainConversations) -> None:
    with pytest.raises(TooLarge):
        messages.edit(talk.access(), "s", 1, say("x" * 1_100_000))
    with pytest.raises(InvalidInput):
        messages.edit(talk.access(), "s", 1, say(object()))
    assert get(talk).version == 1


def test_an_edit_under_a_turn(talk: PlainConversations) -> None:
    """The turn marks its message, and the edit takes its text. Neither undoes the other."""
    turn, _ = begin(talk.access("alice"), "s", say("q"))
    assert turn
    messages.edit(talk.access("alice"), "s", 3, say("better q"))
    turn.end(None)
    message = get(talk).messages[2]
    assert (message.body, message.status) == (say("better q"), "unanswered")
    messages.edit(talk.access("alice"), "s", 3, say("best q"))
    assert get(talk).messages[2].status == "unanswered"


def test_a_redaction_under_a_turn(talk: PlainConversations) -> None:
    for answer in ("a", None):
        turn, begun = begin(talk.access("alice"), "s", say(SECRET))
        assert turn
        seq = begun.receipt.first_seq
        assert seq
        messages.redact(talk.access("alice"), "s", seq)
        turn.end(answer)
        message = get(talk).message(seq)
        assert (message.body, message.status) == (say(""), "redacted")


def test_an_edit_conflicts_with_a_faster_one(talk: PlainConversations) -> None:
    def change(before: Any) -> Any:
        if before["content"] == SECRET:
            messages.edit(talk.access(), "s", 1, say("theirs"))
        return say(before["content"] + "!")

    messages.edit(talk.access(), "s", 1, change)
    assert get(talk).messages[0].body == say("theirs!")


def test_a_repeated_edit_changes_nothing(talk: PlainConversations) -> None:
    first, receipt = messages.edit(talk.access(), "s", 1, say("once"), keep=True, token="T")
    again, repeat = messages.edit(talk.access(), "s", 1, say("once"), keep=True, token="T")
    assert (again, repeat.version, repeat.repeated) == (first, receipt.version, True)
    messages.edit(talk.access(), "s", 1, say("later"))
    again, _ = messages.edit(talk.access(), "s", 1, say("once"), keep=True, token="T")
    assert again.body == say("later"), "a message that was edited since is shown as it is now"
    others: list[Any] = [
        lambda: messages.edit(talk.access(), "s", 1, say("twice"), keep=True, token="T"),
        lambda: messages.edit(talk.access(), "s", 2, say("once"), keep=True, token="T"),
    ]
    for other in others:
        with pytest.raises(TokenReused):
            other()
    talk.delete_session("s", owner="alice")
    talk.save_session("s", {"history": [say("of the successor")]}, owner="alice")
    with pytest.raises(SessionNotFound):
        messages.edit(talk.access(), "s", 1, say("once"), keep=True, token="T")
    assert get(talk)["history"] == [say("of the successor")]


def test_edit_over_http(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    with service.app.app_context():
        service.convstore.append(
            session_id,
            say("mine", name="ada"),
            say("theirs", "assistant"),
            Message("bare"),
            {"content": "no role"},
            say("hidden", "system"),
        )
    path = f"/sessions/{session_id}/messages"
    tag = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    key = {"Idempotency-Key": "k"}
    response = service.client.patch(f"{path}/1", json={"content": "better"}, headers={**key, "If-Match": tag})
    shown = service.json(response, 200)
    assert (shown["version"], shown["message"]["content"], shown["message"]["name"]) == (3, "better", "ada")
    assert "edited_at" in shown["message"]
    problem(
        service.client.patch(f"{path}/1", json={"content": "x"}, headers={"If-Match": tag}), 412, "precondition-failed"
    )
    again = service.client.patch(f"{path}/1", json={"content": "better"}, headers={**key, "If-Match": tag})
    assert again.json == shown
    problem(service.client.patch(f"{path}/1", json={"content": "other"}, headers=key), 422, "invalid")
    for seq in (2, 3, 4, 5, 6, 0, 10**30):
        problem(service.client.patch(f"{path}/{seq}", json={"content": "x"}), 404, "not-found")
    bodies: list[Any] = [
        {},
        {"content": 1},
        {"content": []},
        {"content": "x", "role": "system"},
        {"content": "x", "seq": 2},
    ]
    for body in bodies:
        problem(service.client.patch(f"{path}/1", json=body), 422, "invalid")
    assert [message["content"] for message in service.get(session_id)["history"]] == [
        "better",
        "theirs",
        "bare",
        "no role",
    ]
    assert service.get(session_id)["version"] == 3


# ---- redact


def test_a_redacted_text_is_nowhere(talk: PlainConversations, harness: Harness) -> None:
    talk.append("s", Message(say("x", name=SECRET), {"note": SECRET}), token="T", owner="alice")
    messages.edit(talk.access("alice"), "s", 3, say(f"again {SECRET}"), keep=True, token="E")
    messages.edit(talk.access("alice"), "s", 1, say(f"{SECRET}!"), keep=True)
    assert everything(talk, harness).count("4711") >= 4
    for seq in (1, 3):
        message, _ = messages.redact(talk.access("alice"), "s", seq)
        assert (message.body, message.status, message.metadata, message.edits) == (say(""), "redacted", None, ())
    assert "4711" not in everything(talk, harness)
    assert "4711" not in repr(list(transfer.export(talk.access("alice"))))
    session = get(talk)
    assert session.title is None
    assert [(message.seq, message.get("role")) for message in session.messages] == [
        (1, "user"),
        (2, "assistant"),
        (3, "user"),
    ]
    again, _ = messages.redact(talk.access("alice"), "s", 1)
    assert again.status == "redacted"


@in_memory
@pytest.mark.parametrize(
    ("body", "left"), [("bare", ""), ({"text": "x"}, {"content": ""}), (["a"], ""), (None, ""), (7, "")]
)
def test_redacted_bodies_of_any_form(conversations: PlainConversations, body: Any, left: Any) -> None:
    conversations.save_session("s", [body])
    messages.redact(conversations.access(), "s", 1)
    assert get(conversations) == [left]


def test_redact_over_http(url: str) -> None:
    service = Service(url)
    session_id = service.start(message={"content": SECRET, "metadata": {"x": SECRET}})
    with service.app.app_context():
        service.convstore.append(session_id, say("hidden", "system"), say(SECRET, "assistant"), Message(SECRET))
    path = f"/sessions/{session_id}/messages"
    tag = service.client.get(f"/sessions/{session_id}").headers["ETag"]
    problem(service.client.delete(f"{path}/1", headers={"If-Match": '"1-1"'}), 412, "precondition-failed")
    assert (
        service.json(service.client.delete(f"{path}/1", headers={"If-Match": tag}), 200)["message"]["status"]
        == "redacted"
    )
    for seq in (3, 4):
        service.json(service.client.delete(f"{path}/{seq}"), 200)
    for seq in (2, 9, 0):  # a role that clients do not see
        problem(service.client.delete(f"{path}/{seq}"), 404, "not-found")
    with service.app.app_context():
        assert service.convstore.get_session(session_id)["history"][1] == say("hidden", "system")  # type: ignore[index]
    assert b"4711" not in service.client.get(f"/sessions/{session_id}").data


# ---- pages


def test_pages_of_messages(conversations: PlainConversations) -> None:
    conversations.save_session("s", [str(number) for number in range(1, 11)])
    found, before = [], None
    while True:
        page = messages.page(conversations.access(), "s", before=before, limit=4)
        found.append([message.seq for message in page.messages])
        before = page.next
        if before is None:
            break
    assert found == [[7, 8, 9, 10], [3, 4, 5, 6], [1, 2]]
    assert messages.page(conversations.access(), "s", before=1, limit=4)[:3] == ([], None, None)
    assert [m.seq for m in messages.page(conversations.access(), "s", before=99, limit=2).messages] == [9, 10]
    conversations.append("s", Message("11"))
    assert [m.seq for m in messages.page(conversations.access(), "s", before=7, limit=4).messages] == [3, 4, 5, 6], (
        "pages do not move"
    )


def test_pages_end_at_the_oldest_message(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["1", "2", "3", "4"])
    session = get(conversations)
    del session[:2]
    conversations.save_session("s", session)
    page = messages.page(conversations.access(), "s", limit=5)
    assert ([m.seq for m in page.messages], page.next) == ([3, 4], None)
    assert messages.page(conversations.access(), "s", before=3)[:3] == ([], None, None)
    assert messages.page(conversations.access(), "s", before=1)[:3] == ([], None, None)


def test_pages_forwards(conversations: PlainConversations) -> None:
    conversations.save_session("s", [str(number) for number in range(1, 9)])
    found: list[list[int]] = []
    after: int | None = 0
    while after is not None:
        page = messages.page(conversations.access(), "s", after=after, limit=3)
        found.append([message.seq for message in page.messages])
        after = page.next
    assert found == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert messages.page(conversations.access(), "s", after=8)[:3] == ([], None, None)
    assert messages.page(conversations.access(), "s", after=99)[:3] == ([], None, None)
    session = get(conversations)
    del session[:5]
    conversations.save_session("s", session)
    conversations.append("s", Message("9"))
    for after in (0, 3, 5):  # those that were dropped are passed over
        page = messages.page(conversations.access(), "s", after=after, limit=2)
        assert ([m.seq for m in page.messages], page.next) == ([6, 7], 7)
    assert [m.body for m in messages.page(conversations.access(), "s", after=8).messages] == ["9"]
    between = messages.page(conversations.access(), "s", before=8, after=5)
    assert ([m.seq for m in between.messages], between.next) == ([6, 7], None)
    assert messages.page(conversations.access(), "s", before=3, after=7)[:2] == ([], None)


def test_a_page_forwards_costs_the_same_everywhere(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        conversations = PlainConversations(RedisHarness(redis.Redis.from_url(proxy.url)).store)
        conversations.save_session("s", [f"message {number}" for number in range(10_000, 19_999)])
        conversations.messages("s", after=0)
        costs = set()
        for after in (1000, 5000, 9000):
            proxy.reset()
            assert len(conversations.messages("s", after=after).messages) == 50
            costs.add((proxy.round_trips, proxy.sent, proxy.received))
        assert len(costs) == 1
        assert costs.pop()[0] == 1


@in_memory
@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"before": 0},
        {"before": "1"},
        {"before": 2**54},
        {"after": -1},
        {"after": "1"},
        {"after": 2**54},
    ],
)
def test_pages_are_checked(talk: PlainConversations, options: Any) -> None:
    with pytest.raises(InvalidInput):
        messages.page(talk.access(), "s", **options)


def test_pages_over_http(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    with service.app.app_context():
        roles = ["user", "system", "assistant", "system", "user"]
        service.convstore.append(session_id, *(say(str(n), role) for n, role in enumerate(roles, 1)))
    path = f"/sessions/{session_id}/messages"
    first = service.json(service.client.get(f"{path}?limit=2"), 200)
    assert ([message["seq"] for message in first["messages"]], first["next"]) == ([5], 4)
    second = service.json(service.client.get(f"{path}?limit=2&before=4"), 200)
    assert ([message["seq"] for message in second["messages"]], second["next"]) == ([3], 2)
    last = service.json(service.client.get(f"{path}?limit=2&before=2"), 200)
    assert ([message["seq"] for message in last["messages"]], last["next"]) == ([1], None)
    forwards = service.json(service.client.get(f"{path}?limit=2&after=0"), 200)
    assert ([message["seq"] for message in forwards["messages"]], forwards["next"]) == ([1], 2)
    forwards = service.json(service.client.get(f"{path}?limit=3&after=2"), 200)
    assert ([message["seq"] for message in forwards["messages"]], forwards["next"]) == ([3, 5], None)
    for query in ("?limit=0", "?before=0", "?limit=x", "?before=1e3", "?limit=1001", "?after=-1"):
        problem(service.client.get(path + query), 422, "invalid")


def test_a_page_that_the_client_has_is_not_sent_again(url: str) -> None:
    service = Service(url)
    session_id = service.start()
    with service.app.app_context():
        service.convstore.append(session_id, say("1"), say("2"))
    path = f"/sessions/{session_id}/messages?after=1"
    first = service.client.get(path)
    state = first.headers["ETag"]
    assert (first.status_code, state) == (200, service.client.get(f"/sessions/{session_id}").headers["ETag"])
    known = service.client.get(path, headers={"If-None-Match": state})
    assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", state)
    with service.app.app_context():
        service.convstore.append(session_id, say("3"))
    assert len(service.client.get(path, headers={"If-None-Match": state}).get_json()["messages"]) == 2


# ---- token counts


def test_tokens_are_summed_once(conversations: PlainConversations) -> None:
    for session_id in ("s", "t"):
        conversations.save_session(session_id, [Message(say("q"), tokens=Usage(10, 1))], owner="alice")
        for _ in range(3):
            conversations.append(
                session_id, Message(say("r", "assistant"), tokens=Usage(0, 5)), token="T", owner="alice"
            )
            turn, _ = begin(
                conversations.access("alice"), session_id, Message(say("q"), tokens=Usage(100, 0)), token="B"
            )
            if turn:
                turn.end(Message(say("r", "assistant"), tokens=Usage(0, 1000)))
        assert get(conversations, session_id).usage == (110, 1006)
    assert owners.usage(conversations.access("alice")) == (220, 2012)
    assert owners.usage(conversations.access("bob")) == (0, 0)
    messages.edit(conversations.access(), "s", 1, say("edited"))
    messages.redact(conversations.access(), "s", 2)
    assert get(conversations).usage == (110, 1006), "what was spent was spent"
    compacted = branching.compact(conversations.access("alice"), "s", "so far", keep=1)
    assert compacted.usage == (110, 1006)
    conversations.delete_session("s")
    conversations.delete_session(compacted.session_id)
    assert owners.usage(conversations.access("alice")) == (110, 1006)


@in_memory
@pytest.mark.parametrize("tokens", [Usage(-1, 0), Usage(0, 2**50), Usage(True, 0), Usage(1.5, 0), Usage("1", 0)])  # type: ignore[arg-type]
def test_token_counts_are_validated(talk: PlainConversations, tokens: Usage) -> None:
    with pytest.raises(InvalidInput):
        talk.append("s", Message("x", tokens=tokens))
    assert get(talk).version == 1


def test_tokens_over_http(url: str) -> None:
    service = OwnedService(url)
    service.convstore.reply(lambda turn: Message(say("r", "assistant"), tokens=Usage(12, 30)))
    session_id = service.json(service.call("alice", "POST", json={}), 201)["session_id"]
    for _ in range(2):
        options: Any = {"json": {"content": "q"}, "headers": {"Idempotency-Key": "k"}}
        turn = service.json(service.call("alice", "POST", f"/{session_id}/messages", **options), 201)
        assert turn["reply"]["tokens"] == {"input": 12, "output": 30}
    assert service.json(service.call("alice", "GET", f"/{session_id}"), 200)["tokens"] == {"input": 12, "output": 30}
    (shown,) = service.json(service.call("alice", "GET"), 200)["sessions"]
    assert shown["tokens"] == {"input": 12, "output": 30}
    assert not {"data", "history"} & set(shown)


# ---- the wire


def test_round_trips(valkey: Server) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        client = redis.Redis.from_url(proxy.url)
        conversations = PlainConversations(RedisHarness(client).store)
        conversations.save_session("s", [str(number) for number in range(2000)], owner="alice")
        for call, trips in (
            (lambda: updates.update(conversations.access("alice"), "s", {"a": 1}, title="t", ttl=5000), 2),
            (lambda: messages.page(conversations.access("alice"), "s", limit=50), 1),
            (lambda: messages.edit(conversations.access("alice"), "s", 1000, "x"), 2),
            (lambda: messages.redact(conversations.access("alice"), "s", 1001), 2),
            (lambda: updates.share(conversations.access("alice"), "s", "bob", "reader"), 1),
            (lambda: conversations.list_sessions(owner="alice"), 2),
        ):
            call()  # the script is sent
            proxy.reset()
            call()
            assert proxy.round_trips == trips
        proxy.reset()
        updates.update(conversations.access("alice"), "s", {"a": 2})
        assert proxy.round_trips == 1, "a new lifetime tells the index at once"
        client.close()


@pytest.mark.parametrize("fault", ["lost reply", "lost request", "half reply"])
def test_a_write_over_a_faulty_connection_happens_once(valkey: Server, fault: Any) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        client = redis.Redis.from_url(proxy.url)
        conversations = PlainConversations(RedisHarness(client).store)
        conversations.save_session("s", [Message("a", tokens=Usage(1, 1)), "b"], owner="alice")
        calls: list[Any] = [
            lambda: messages.edit(conversations.access(), "s", 1, "x", keep=True),
            lambda: messages.redact(conversations.access(), "s", 2),
            lambda: updates.update(conversations.access(), "s", {"n": 1}, title="t"),
            lambda: conversations.append("s", Message("c", tokens=Usage(2, 2))),
            lambda: updates.share(conversations.access("alice"), "s", "bob", "writer"),
        ]
        for number, call in enumerate(calls):
            proxy.faults = [fault]
            call()
            assert get(conversations).version == number + 2
        session = get(conversations)
        assert session.usage == (3, 3)
        assert session.messages[0].edits == ("a",)
        client.close()


# ---- refusals


@in_memory
@pytest.mark.parametrize(
    ("call", "path", "reason"),
    [
        (lambda on: updates.update(on.access(), "s", title="x" * 201), "title", "1 to 200 characters, not 201"),
        (lambda on: updates.update(on.access(), "s", title=5), "title", "it must be a text, not int"),  # type: ignore[arg-type]
        (lambda on: updates.update(on.access(), "s", title="a\nb"), "title", ""),
        (lambda on: updates.update(on.access(), "s", {"x": object()}), "data.x", ""),
        (lambda on: messages.page(on.access(), "s", limit=0), "limit", "a whole number, 1 to 1,000, not 0"),
        (lambda on: messages.page(on.access(), "s", limit=1001), "limit", "not 1001"),
        (lambda on: messages.page(on.access(), "s", before=0), "before", "not 0"),
        (lambda on: messages.page(on.access(), "s", before=2**53 + 1), "before", "not 9007199254740993"),
        (
            lambda on: messages.edit(on.access(), "s", 0, "x"),
            "seq",
            "a whole number, 1 to 9,007,199,254,740,992, not 0",
        ),
        (lambda on: messages.edit(on.access(), "s", 2**53 + 1, "x"), "seq", "not 9007199254740993"),
        (lambda on: messages.edit(on.access(), "s", True, "x"), "seq", "not True"),
        (lambda on: messages.edit(on.access(), "s", 1, "x", token="a\nb"), "token", ""),
        (lambda on: messages.edit(on.access(), "s", 1, object(), token="T"), "body", ""),
        (lambda on: updates.share(on.access(), "s", "bob", "owner"), "role", "not 'owner'"),  # type: ignore[arg-type]
        (lambda on: updates.share(on.access(), "s", "", "reader"), "name", ""),
    ],
)
def test_a_refusal_names_argument_and_value(talk: PlainConversations, call: Any, path: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call(talk)
    assert caught.value.path == path
    assert reason in caught.value.reason
    assert get(talk).version == 1


def test_values_at_the_limit_are_allowed(talk: PlainConversations) -> None:
    updates.update(talk.access(), "s", title="x" * 200)
    assert get(talk).title == "x" * 200
    assert len(messages.page(talk.access(), "s", before=2**53, limit=1000).messages) == 2
    assert [message.seq for message in messages.page(talk.access(), "s", before=2, limit=1).messages] == [1]
    with pytest.raises(MessageNotFound) as caught:
        messages.edit(talk.access(), "s", 2**53, "x")
    assert (caught.value.session_id, caught.value.seq) == ("s", 2**53)
    for call in (lambda: messages.page(talk.access(), "gone"), lambda: messages.edit(talk.access(), "gone", 1, "x")):
        with pytest.raises(SessionNotFound) as missing:
            call()
        assert missing.value.session_id == "gone"


def test_a_token_belongs_to_one_edit(talk: PlainConversations) -> None:
    """Another message, body, metadata or ``keep`` needs another token."""
    first, _ = messages.edit(talk.access(), "s", 1, "new", metadata={"m": 1}, token="T")
    assert (first.body, first.metadata, first.edits) == ("new", {"m": 1}, ())
    others: list[tuple[int, Any, dict[str, Any]]] = [
        (2, "new", {"metadata": {"m": 1}}),
        (1, "other", {"metadata": {"m": 1}}),
        (1, "new", {"metadata": {"m": 2}}),
        (1, "new", {"metadata": {"m": 1}, "keep": True}),
        (1, "new", {"metadata": {"m": 1}, "request": "x"}),
    ]
    for seq, body, options in others:
        with pytest.raises(TokenReused):
            messages.edit(talk.access(), "s", seq, body, token="T", **options)
    again, receipt = messages.edit(talk.access(), "s", 1, "new", metadata={"m": 1}, token="T")
    assert (again.body, receipt.repeated, get(talk).version) == ("new", True, 2)
    kept, _ = messages.edit(talk.access(), "s", 1, lambda body: f"{body}er", keep=True)
    assert (kept.body, kept.metadata, kept.edits) == ("newer", {"m": 1}, ("new",))


def test_an_edit_gives_up_if_the_status_changes_again_and_again(talk: PlainConversations) -> None:
    class Meddling(StoreAround):
        edits = 0

        def apply(self, command: Any) -> Any:
            if isinstance(command, Edit):
                Meddling.edits += 1
                other = messages.edit(talk.access(), "s", 1, str(Meddling.edits))
                assert other
            return super().apply(command)

    with pytest.raises(ConflictError) as caught:
        messages.edit(PlainConversations(Meddling(talk._access().backend.store)).access(), "s", 1, "mine")
    assert (caught.value.what, Meddling.edits) == ("message", 5)
    assert get(talk)["history"][0] == "5"


def test_an_edit_counts_a_version_and_changes_the_title(talk: PlainConversations) -> None:
    _, receipt = messages.edit(talk.access(), "s", 1, say("first", "assistant"), expected="1")
    assert (receipt.version, receipt.first_seq, get(talk).title) == (2, 1, None), "no user says it any more"
    with pytest.raises(ConflictError) as caught:
        messages.edit(talk.access(), "s", 1, "x", expected="1")
    assert (caught.value.what, caught.value.actual) == ("version", 2)
    with pytest.raises(MessageNotFound):
        messages.edit(talk.access(), "s", 1, "x", roles=("user",))
    messages.edit(talk.access(), "s", 1, "x", roles=("assistant",))
    messages.edit(talk.access(), "s", 1, "y", roles=(None,))
    assert get(talk)["history"][0] == "y"


def test_a_repeated_edit_of_a_dropped_message_is_not_found(talk: PlainConversations) -> None:
    class Dropping(StoreAround):
        def apply(self, command: Any) -> Any:
            receipt = super().apply(command)
            if receipt.repeated:
                session = get(talk)
                del session["history"][0]
                talk.save_session("s", session)
            return receipt

    messages.edit(talk.access(), "s", 1, "new", token="T")
    with pytest.raises(MessageNotFound) as caught:
        messages.edit(PlainConversations(Dropping(talk._access().backend.store)).access(), "s", 1, "new", token="T")
    assert (caught.value.session_id, caught.value.seq) == ("s", 1)
