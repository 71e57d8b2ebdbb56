"""Aliases: an outside conversation id leads to one session for all callers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flask_convstore import ANY, InvalidInput, SessionNotFound, StoreUnavailable
from flask_convstore.domain.messages import Message
from flask_convstore.domain.types import Alias
from flask_convstore.operations import aliases, branching

from ..harness import AwayAfter, Harness, MemoryHarness, PlainConversations, in_memory
from ..servers import Server
from ..service import Service

DAY = 24 * 3600 * 1000
NAME = "telegram:123"


def resolved(conversations: PlainConversations, alias: str = NAME, **options: Any) -> Any:
    return conversations.resolve(alias, create=True, **options)


def test_an_alias_leads_to_one_session(conversations: PlainConversations) -> None:
    assert aliases.resolve(conversations.access(), NAME) is None
    session = resolved(conversations, data={"name": "Ada", "history": ["hi"]}, ttl=50)
    assert session == {"name": "Ada", "history": ["hi"]}
    again = resolved(conversations, data={"other": 1})
    assert (again, again.session_id, again.version) == (session, session.session_id, 1)
    assert aliases.aliases(conversations.access(), session.session_id) == [NAME]
    assert resolved(conversations, "telegram:124").session_id != session.session_id


def test_a_new_session_has_no_messages(conversations: PlainConversations) -> None:
    assert resolved(conversations) == {"history": []}


@pytest.mark.parametrize("gone", ["deleted", "expired"])
def test_an_alias_of_a_deleted_session_leads_to_a_new_one(
    harness: Harness, conversations: PlainConversations, gone: str
) -> None:
    """The old id is never used again. A message for the old session must not reach the new one."""
    old = resolved(conversations).session_id
    if gone == "deleted":
        conversations.delete_session(old)
    else:
        harness.expire(old)
    assert aliases.resolve(conversations.access(), NAME) is None
    new = resolved(conversations).session_id
    assert new != old
    with pytest.raises(SessionNotFound):
        conversations.append(old, Message("late"))
    assert resolved(conversations).session_id == new


@pytest.mark.parametrize("before", ["nothing", "stale"])
def test_any_number_of_callers_at_once_get_the_same_session(conversations: PlainConversations, before: str) -> None:
    for round_ in range(5):
        alias = f"slack:{round_}"
        if before == "stale":
            conversations.delete_session(resolved(conversations, alias).session_id)
        barrier = threading.Barrier(12)
        found: list[str] = []

        def work(alias: str = alias, barrier: Any = barrier, found: Any = found) -> None:
            barrier.wait()
            found.append(resolved(conversations, alias).session_id)

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 12
        assert len(set(found)) == 1


def test_an_alias_belongs_to_its_owner(conversations: PlainConversations) -> None:
    ids = [resolved(conversations, owner=owner).session_id for owner in (None, "alice", "bob", "ali:ce")]
    assert len(set(ids)) == 4
    assert aliases.resolve(conversations.access("carol"), NAME) is None
    assert resolved(conversations, owner=ANY).session_id == ids[0]
    # A colon in an owner's name gives no way to another owner's aliases.
    assert (
        resolved(conversations, "ce:x", owner="ali").session_id
        != resolved(conversations, "x", owner="ali:ce").session_id
    )


def test_nobody_links_to_another_owners_session(conversations: PlainConversations) -> None:
    conversations.save_session("hers", {}, owner="alice")
    with pytest.raises(SessionNotFound):
        aliases.link(conversations.access("bob"), NAME, "hers")
    assert aliases.resolve(conversations.access("bob"), NAME) is None
    # Even an alias that leads there shows nothing of the session, and create=True takes nothing from it.
    conversations.save_session("his", {}, owner="bob")
    aliases.link(conversations.access("bob"), NAME, "his")
    conversations.delete_session("his", owner="bob")
    conversations.save_session("his", {"secret": 1}, owner="alice")
    assert aliases.resolve(conversations.access("bob"), NAME) is None
    assert resolved(conversations, owner="bob") == {"history": []}


def test_link_moves_an_alias_and_unlink_removes_it(conversations: PlainConversations) -> None:
    for session_id in ("one", "two"):
        conversations.save_session(session_id, {"id": session_id})
        aliases.link(conversations.access(), NAME, session_id)
    aliases.link(conversations.access(), "web:7", "two")
    assert resolved(conversations) == {"id": "two"}
    assert aliases.aliases(conversations.access(), "one") == []
    assert aliases.aliases(conversations.access(), "two") == [NAME, "web:7"]
    assert aliases.unlink(conversations.access(), NAME)
    assert not aliases.unlink(conversations.access(), NAME)
    assert aliases.resolve(conversations.access(), NAME) is None
    assert aliases.aliases(conversations.access(), "two") == ["web:7"]
    assert conversations.exists("two")
    assert aliases.aliases(conversations.access(), "none") == []


def test_clear_removes_session_and_alias(conversations: PlainConversations) -> None:
    assert not aliases.clear(conversations.access(), NAME)
    session_id = resolved(conversations).session_id
    assert aliases.clear(conversations.access(), NAME)
    assert conversations.get_session(session_id) is None
    assert not aliases.unlink(conversations.access(), NAME)
    conversations.delete_session(resolved(conversations).session_id)
    assert not aliases.clear(conversations.access(), NAME)
    assert not aliases.unlink(conversations.access(), NAME)


def test_an_unlinked_session_can_still_be_used_and_linked_again(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"n": 1})
    version = conversations.get_session("s").version  # type: ignore[union-attr]
    aliases.link(conversations.access(), NAME, "s")
    aliases.unlink(conversations.access(), NAME)
    aliases.link(conversations.access(), NAME, "s")
    session = resolved(conversations)
    assert (session, session.version) == ({"n": 1}, version)


@in_memory
@pytest.mark.parametrize("alias", ["", "x" * 201, "a\nb", 5])
def test_a_bad_alias_is_refused(conversations: PlainConversations, alias: Any) -> None:
    with pytest.raises(InvalidInput):
        aliases.resolve(conversations.access(), alias, create=True)


def test_an_alias_lives_a_day_longer_than_its_session_may(server: Server) -> None:
    service = Service(server.url)
    key = "chat:session:alias:{:telegram:123}"
    with service.app.app_context():
        short = service.convstore.resolve(NAME, create=True)
        assert short is not None
        assert 1.9 * DAY < server.client.pttl(key) <= 2 * DAY
        service.convstore.touch(short.session_id, ttl=100 * 24 * 3600)
        service.convstore.resolve(NAME)
        assert 100 * DAY < server.client.pttl(key) <= 101 * DAY


def test_an_alias_outlives_a_session_that_is_used_by_its_id_only(server: Server) -> None:
    service = Service(server.url)
    with service.app.app_context():
        session = service.convstore.resolve(NAME, create=True)
        assert session is not None
        key, alias = f"chat:session:{{{session.session_id}}}", "chat:session:alias:{:telegram:123}"
        service.convstore.touch(session.session_id, ttl=40 * 24 * 3600)
        server.client.pexpire(alias, 1000)
        server.client.hset(key, "indexed", 1)  # as a minute later
        service.convstore.append(session.session_id, Message("still here"))
        assert 40 * DAY < server.client.pttl(alias) <= 41 * DAY


def test_an_alias_expires_in_memory_too() -> None:
    harness = MemoryHarness()
    conversations = PlainConversations(harness.store)
    resolved(conversations)
    harness.age(31 * DAY)
    assert harness.store.follow(Alias(None, NAME), 1) is None


def test_resolve_follows_a_moved_conversation(harness: Harness, conversations: PlainConversations) -> None:
    """The compaction may have died before it could move the alias."""
    old = resolved(conversations)
    new = branching.compact(conversations.access(), old.session_id, "nothing was said")
    assert resolved(conversations).session_id == new.session_id
    aliases.move(conversations.access(), [Alias(None, NAME)], new.session_id, old.session_id)
    assert resolved(conversations).session_id == new.session_id


@pytest.mark.parametrize(
    ("operation", "writes"),
    [(aliases.clear, 1), (aliases.unlink, 1), (aliases.resolve, 2)],
    ids=["clear", "unlink", "resolve"],
)
def test_an_error_tells_of_the_steps_done_before_the_store_went_away(
    conversations: PlainConversations, operation: Any, writes: int
) -> None:
    """The session is deleted, the alias leads nowhere, or the session is created. Only the last step is missing."""
    options = {"create": True} if operation is aliases.resolve else {}
    if not options:
        resolved(conversations)
    with pytest.raises(StoreUnavailable) as caught:
        operation(PlainConversations(AwayAfter(conversations.backend.store, writes)).access(), NAME, **options)
    assert caught.value.written is True
