"""Sessions that a host does not know whole, while the store is away and the app goes on."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    LinkAlias,
    Merge,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import (
    ConflictError,
    NothingKnown,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreUnavailable,
    TokenReused,
    TurnInProgress,
)
from flask_convstore.outages.beside import count_seen
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.store import Store

from . import test_fallback
from .test_fallback import LIMITS, Host, append, edited, merge, said, texts_in, upsert


def start(session_id: str, *texts: str, **given: Any) -> Put:
    return test_fallback.start(session_id, *texts, may_continue=True, **given)


def there(store: Store, session_id: str, *texts: str, owner: Any = None, **given: Any) -> None:
    """Let the store have a session before it is away."""
    store.apply(start(session_id, *texts, owner=owner, **given))
    time.sleep(0.002)  # times are compared to the millisecond


def test_a_session_of_the_store_is_gone_on_with_and_added_to(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b")
    one, other = host.workers
    receipt = one.apply(append("s", "c"))
    assert (receipt.level, receipt.fallback, receipt.partial) == ("journal", "journal", True)
    assert other.apply(append("s", "d")).partial
    for worker in host.workers:
        found = worker.load("s", None)
        assert found
        assert (found.partial, found.fallback) == (True, "journal")
        assert texts_in(worker, "s") == ["c", "d"]
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "c", "d"]
    found = one.load("s", None)
    assert found
    assert (found.partial, found.fallback) == (False, None)
    assert not host.told


class Channel(str, enum.Enum):  # noqa: UP042, a StrEnum is formatted as its text
    SUPPORT = "support"


def test_a_name_that_equals_a_text_is_that_text(host: Host, store: MemoryStore) -> None:
    there(store, "support", "there")
    host.switch.is_away = True
    host.workers[0].apply(append(Channel.SUPPORT, "one"))
    host.workers[1].apply(append("support", "two"))
    host.come_back()
    assert texts_in(store, "support") == ["there", "one", "two"]


def test_a_session_that_is_nowhere_is_created(host: Host, store: MemoryStore) -> None:
    worker = host.workers[0]
    worker.apply(append("s", "a"))
    worker.apply(upsert("chat", "b"))
    host.come_back()
    assert (texts_in(store, "s"), texts_in(store, "chat")) == (["a"], ["b"])


@pytest.mark.parametrize(
    "command",
    [
        Touch(session_id="s", owner=None),
        Edit(session_id="s", owner=None, seq=1, loaded=said("a"), element=said("b")),
        Drop(session_id="s", owner=None, newest=1),
        Share(session_id="s", owner=None, name="x", role="reader"),
        append("s", "b", expected="1"),
        append("s", "b", replaces=1),
        Delete(session_id="s", owner=None, expected="1"),
    ],
)
def test_what_needs_the_whole_session_is_refused(host: Host, store: MemoryStore, command: Any) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    with pytest.raises(NothingKnown):
        worker.apply(command)
    assert not host.journals[0].may_hold()
    worker.apply(append("s", "c"))
    if not isinstance(command, (Touch, Share, Drop)):  # these are of what is known here
        with pytest.raises(NothingKnown):
            worker.apply(command)
    host.come_back()
    assert texts_in(store, "s") in (["a", "c"], ["a"])


def test_reads_of_what_nothing_is_known_say_so(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    for read in (
        lambda: worker.load("s", None),
        lambda: worker.load_many(["s"], None),
        lambda: worker.messages("s", None, None, 10),
        lambda: worker.message("s", None, 1),
    ):
        with pytest.raises(NothingKnown):
            read()
    with pytest.raises(StoreUnavailable):
        worker.page(None)
    worker.apply(append("s", "b"))
    page = worker.messages("s", None, None, 10)
    assert page
    assert (page.partial, len(page.elements)) == (True, 1)
    with pytest.raises(NothingKnown):
        worker.message("s", None, 1)  # it is in the store


def test_a_turn_goes_on(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    begun = worker.begin(BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x"))
    assert begun.snapshot
    assert (begun.receipt.partial, begun.snapshot.partial) == (True, True)
    with pytest.raises(TurnInProgress):
        worker.begin(BeginTurn(session_id="s", owner=None, element=said("other"), lease_ms=9_000))
    worker.apply(RenewTurn(session_id="s", owner=None, turn="x", lease_ms=9_000))
    worker.apply(CommitTurn(session_id="s", owner=None, turn="x", elements=(said("r"),)))
    host.come_back()
    assert texts_in(store, "s") == ["a", "q", "r"]
    assert store.turn_lease("s", None).remaining_ms <= 0


@pytest.mark.parametrize("is_another_process", [False, True])
def test_a_turn_that_is_repeated_afterwards_has_its_reply(
    host: Host, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, is_another_process: bool
) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x", token="t", digest="d")
    begun = worker.begin(begin)
    end = f"t\n{begun.receipt.version}"
    worker.apply(CommitTurn(session_id="s", owner=None, turn="x", elements=(said("r"),), token=end, digest="x e"))
    if is_another_process:  # it dies between the two
        from flask_convstore.outages.continuation_replay import ContinuationReplay

        monkeypatch.setattr(ContinuationReplay, "_ends", {}, raising=False)
        applied = ContinuationReplay._applied

        def forgetful(self: Any, command: Any) -> Any:
            if isinstance(command, CommitTurn):
                self._ends.clear()
            return applied(self, command)

        monkeypatch.setattr(ContinuationReplay, "_applied", forgetful)
    host.come_back()
    again = worker.begin(replace(begin, attempt="y"))
    assert again.reply
    assert texts_in(store, "s") == ["a", "q", "r"]
    assert not host.told


def test_the_reply_of_a_turn_that_began_in_the_store_is_kept(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    store.begin(BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x"))
    worker = host.workers[0]
    renewal = RenewTurn(session_id="s", owner=None, turn="x", lease_ms=9_000)
    with pytest.raises(StoreUnavailable):
        worker.apply(renewal)
    receipt = worker.apply(CommitTurn(session_id="s", owner=None, turn="x", elements=(said("r"),), token="end"))
    assert receipt.partial
    assert texts_in(worker, "s") == ["r"]
    with pytest.raises(StoreUnavailable):
        worker.apply(renewal)  # the turn is the store's
    host.come_back()
    assert texts_in(store, "s") == ["a", "q", "r"]


def test_the_seq_of_a_reply_is_the_last_one_of_its_turn(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    store.begin(BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x"))
    worker = host.workers[0]
    receipt = worker.apply(CommitTurn(session_id="s", owner=None, turn="x", elements=(said("tool"), said("r"))))
    found = worker.load("s", None)
    assert found
    assert receipt.first_seq == found.seqs[-1]


def test_aliases_are_led_in_one_trip(host: Host, store: MemoryStore) -> None:
    commands = [alias(name, "s") for name in "abc"]
    assert host.workers[0].link_all(commands) == ["s", "s", "s"]
    host.come_back()
    host.switch.calls.clear()
    assert host.workers[0].link_all([alias(name, "t", "s") for name in "abc"]) == ["t", "t", "t"]
    assert len(host.switch.calls) == 1


def test_the_reply_of_a_turn_that_others_have_taken_is_added(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    store.begin(BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x"))
    worker = host.workers[0]
    fields = (FieldChange("n", None, b'"ours"'), FieldChange("m", None, b'"ours"'))
    end = CommitTurn(session_id="s", owner=None, turn="x", elements=(said("r"),), fields=fields, token="end")
    worker.apply(end)
    assert worker.apply(end).repeated
    host.switch.is_away = False
    store.begin(BeginTurn(session_id="s", owner=None, element=said("q2"), lease_ms=9_000, attempt="y", supersede=True))
    theirs = (FieldChange("n", None, b'"theirs"'),)
    store.apply(CommitTurn(session_id="s", owner=None, turn="y", elements=(said("r2"),), fields=theirs))
    host.come_back()
    assert texts_in(store, "s") == ["a", "q", "q2", "r2", "r"]
    found = store.load("s", None)
    assert found
    assert found.fields == {"n": b'"theirs"', "m": b'"ours"'}
    assert [type(error) for error in host.told] == [ConflictError]


def test_a_whole_session_replaces_nothing_that_was_not_seen(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", fields=(("step", b"3"), ("name", b'"x"')))
    worker = host.workers[0]
    worker.apply(start("s", "b", fields=(("step", b"1"), ("new", b"true"))))
    worker.apply(start("s", "b", "c", fields=(("step", b"2"), ("new", b"true"))))
    assert texts_in(worker, "s") == ["b", "c"]
    worker.apply(start("s", "d", fields=(("step", b"2"),)))  # it rewrites
    assert texts_in(worker, "s") == ["d"]
    host.come_back()
    found = store.load("s", None)
    assert found
    assert texts_in(store, "s") == ["a", "d"]
    assert found.fields == {"step": b"3", "name": b'"x"'}
    assert host.told  # step


def test_the_first_caller_creates(host: Host, store: MemoryStore) -> None:
    worker = host.workers[0]
    create = start("s", "a", mode="create", token="t", digest="d")
    assert worker.apply(create).partial
    assert worker.apply(create).repeated
    for mode in ("create", "first"):
        with pytest.raises(SessionExists):
            worker.apply(start("s", "b", mode=mode))
    host.come_back()
    assert texts_in(store, "s") == ["a"]


def test_changes_of_a_session_that_was_loaded_before_are_merged(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", fields=(("n", b"1"), ("m", b"1")))
    loaded = store.load("s", None)
    assert loaded
    of_there: dict[str, Any] = {"created_at_ms": loaded.created_at_ms, "loaded_version": loaded.version}
    worker = host.workers[0]
    change = merge("s", Extend(2, (said("c"),)), fields=(FieldChange("n", b"1", b"2"),), **of_there)
    assert worker.apply(change).partial
    worker.apply(append("s", "d", **of_there))
    found = worker.load("s", None)
    assert found
    assert (texts_in(worker, "s"), found.fields) == (["c", "d"], {"n": b"2"})
    own = merge("s", None, fields=(FieldChange("n", b"2", b"3"),), created_at_ms=found.created_at_ms)
    worker.apply(own)
    host.come_back()
    there_now = store.load("s", None)
    assert there_now
    assert texts_in(store, "s") == ["b", "c", "d"]
    assert there_now.fields == {"n": b"3", "m": b"1"}
    assert not host.told


def test_changes_of_a_session_that_the_store_has_lost_are_kept(host: Host, store: MemoryStore) -> None:
    worker = host.workers[0]
    worker.apply(append("s", "a", created_at_ms=12345, loaded_version=7))
    worker.apply(merge("s", None, fields=(FieldChange("n", b"1", b"2"),), created_at_ms=12345))
    host.come_back()
    found = store.load("s", None)
    assert found
    assert (texts_in(store, "s"), found.fields) == (["a"], {"n": b"2"})


def test_the_empty_values_of_a_session_that_was_begun_are_no_loss(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", fields=(("name", b'"Ada"'), ("goals", b'["x"]'), ("step", b"3")))
    empty = (("name", b"null"), ("goals", b"[]"), ("step", b"0"), ("new", b"{}"))
    worker = host.workers[0]
    worker.apply(start("s", mode="create", fields=empty))
    host.come_back()
    assert not host.told
    worker.apply(start("t", fields=(("step", b"3"),)))
    host.switch.is_away = True
    worker.apply(merge("t", None, fields=(FieldChange("step", None, b"0"),)))
    host.come_back()
    assert host.told, "an empty value may be meant"
    found = store.load("s", None)
    assert found
    assert found.fields == {"name": b'"Ada"', "goals": b'["x"]', "step": b"3", "new": b"{}"}


def test_a_whole_history_that_the_app_knows_by_itself_is_not_doubled(host: Host, store: MemoryStore) -> None:
    """The page may send all messages each time."""
    there(store, "s", "a", "b")
    there(store, "short", "a", "b")
    worker = host.workers[0]
    worker.apply(start("s", "a", "b", "c"))
    worker.apply(start("s", "a", "b", "c", "d"))
    worker.apply(start("short", "a", "b"))
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "c", "d"]
    assert texts_in(store, "short") == ["a", "b"]


def test_dicts_in_fields_keep_the_keys_of_both(host: Host, store: MemoryStore) -> None:
    there(store, "s", fields=(("profile", b'{"name":"Ada","seen":{"a":1}}'), ("step", b"3")))
    worker = host.workers[0]
    worker.apply(start("s", fields=(("profile", b'{"seen":{}}'),)))
    worker.apply(merge("s", None, fields=(FieldChange("profile", b'{"seen":{}}', b'{"seen":{"b":1}}'),)))
    worker.apply(merge("s", None, fields=(FieldChange("profile", b'{"seen":{"b":1}}', b'{"seen":{"b":2,"c":1}}'),)))
    host.come_back()
    found = store.load("s", None)
    assert found
    assert found.fields == {"profile": b'{"name":"Ada","seen":{"a":1,"b":2,"c":1}}', "step": b"3"}
    assert not host.told


def test_a_rewritten_history_doubles_nothing(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    worker.apply(append("s", "b", "c"))
    found = worker.load("s", None)
    assert found
    kept = (found.elements[1], said("d"))
    rewrite = Rewrite(found.history_version, kept)
    worker.apply(merge("s", rewrite, created_at_ms=found.created_at_ms, loaded_version=found.version))
    assert texts_in(worker, "s") == ["c", "d"]
    host.come_back()
    assert texts_in(store, "s") == ["a", "c", "d"]


def test_own_messages_are_edited_and_taken_out(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b")
    worker = host.workers[0]
    worker.apply(append("s", "c", "d", "e"))
    found = worker.load("s", None)
    assert found
    worker.apply(edited(worker, found.seqs[0], "C"))
    worker.apply(Drop(session_id="s", owner=None, newest=1))
    assert texts_in(worker, "s") == ["C", "d"]
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "C", "d"]


def test_a_delete_is_done_where_nobody_has_written_since(host: Host, store: MemoryStore) -> None:
    there(store, "gone", "a")
    there(store, "kept", "a")
    worker = host.workers[0]
    time.sleep(0.005)
    for session_id in ("gone", "kept"):
        worker.apply(append(session_id, "b"))
        worker.apply(Delete(session_id=session_id, owner=None))
        assert worker.load(session_id, None) is None
    time.sleep(0.005)
    theirs = Append(session_id="kept", owner=None, elements=(b'1{"at":%d}\n"theirs"' % (time.time() * 1000),))
    store.apply(theirs)
    host.come_back()
    assert store.load("gone", None) is None
    assert texts_in(store, "kept") == ["a", "theirs", "b"]
    assert [type(error) for error in host.told] == [ConflictError]


def test_a_session_that_begins_anew_behind_a_delete_is_whole(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    worker.apply(Delete(session_id="s", owner=None))
    with pytest.raises(SessionNotFound):
        worker.apply(append("s", "b"))
    worker.apply(start("s", "c"))
    found = worker.load("s", None)
    assert found
    assert not found.partial
    host.come_back()
    assert texts_in(store, "s") == ["c"]


def test_each_owner_has_a_part_and_strangers_get_nothing_in(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    for owner in ("eve", "ann", "guest", None):
        worker.apply(append("s", f"of {owner}", owner=owner))
    for owner in ("eve", "ann", "guest", None):
        assert texts_in(worker, "s", owner) == [f"of {owner}"]
    host.come_back()
    assert texts_in(store, "s", "ann") == ["a", "of ann", "of guest"]
    assert store.load("s", "eve") is None
    assert host.journals[0].status().aside >= 2
    assert len(host.told) == 2


def test_threads_and_requests_go_on_together_where_nobody_has_an_owner(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    worker.apply(append("s", "b"))
    worker.apply(append("s", "c", owner=ANY))
    assert texts_in(worker, "s") == ["b", "c"]
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "c"]


def test_a_repeat_across_the_outage_is_one(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    landed, fresh = append("s", "b", token="t1", digest="d1"), append("s", "c", token="t2", digest="d2")
    store.apply(landed)
    host.switch.written = None
    worker.apply(landed)
    worker.apply(fresh)
    assert worker.apply(fresh).repeated
    host.come_back()
    assert worker.apply(landed).repeated
    assert worker.apply(fresh).repeated
    assert texts_in(store, "s") == ["a", "b", "c"]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_turn_that_was_answered_before_has_one_reply(host: Host, store: MemoryStore, before: int) -> None:
    """Its answer was lost, and the client repeated it while the store was away."""
    there(store, "s", *("a" * before))

    def turn(store: Store, reply: str) -> None:
        begin = BeginTurn(
            session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt=reply, token="T", digest="d"
        )
        version = store.begin(begin).receipt.version
        end: dict[str, Any] = {"turn": reply, "elements": (said(reply),), "digest": reply}
        store.apply(CommitTurn(session_id="s", owner=None, token=f"T\n{version}", **end))

    turn(store, "r")
    worker = host.workers[0]
    turn(worker, "r2")
    worker.apply(append("s", "b"))
    host.come_back()
    assert texts_in(store, "s") == [*("a" * before), "q", "r", "b"]
    assert [type(error) for error in host.told] == [TokenReused]  # its reader has seen another reply


def test_two_hosts_parts_stand_one_behind_the_other(host: Host, other_host: Host, store: MemoryStore) -> None:
    there(store, "s", "0")
    for number in range(3):
        host.workers[0].apply(append("s", f"a{number}"))
        other_host.workers[0].apply(append("s", f"b{number}"))
    host.come_back()
    other_host.come_back()
    texts = texts_in(store, "s")
    assert texts
    ours, theirs = [f"a{number}" for number in range(3)], [f"b{number}" for number in range(3)]
    assert texts[-6:] in ([*ours, *theirs], [*theirs, *ours])


def alias(name: str, session_id: str | None, expected: Any = None) -> LinkAlias:
    return LinkAlias(alias=Alias(None, name), session_id=session_id, expected=expected, lifetime_ms=10**6)


def test_an_alias_leads_to_one_session_where_there_was_none(host: Host, store: MemoryStore) -> None:
    one, other = host.workers
    with pytest.raises(StoreUnavailable):
        one.follow(Alias(None, "telegram:1"), 1000)
    assert one.link(alias("telegram:1", "s1")) == "s1"
    assert other.link(alias("telegram:1", "s2")) == "s1"
    one.apply(start("s1", "a", mode="first"))
    one.apply(NoteAlias(session_id="s1", owner=None, alias=Alias(None, "telegram:1"), leads_here=True))
    assert other.follow(Alias(None, "telegram:1"), 1000) == "s1"
    host.come_back()
    assert store.follow(Alias(None, "telegram:1"), 1000) == "s1"
    assert texts_in(store, "s1") == ["a"]
    assert host.workers[0].follow(Alias(None, "telegram:1"), 1000) == "s1"


def test_a_session_of_an_alias_is_added_to_the_one_that_there_is(host: Host, store: MemoryStore) -> None:
    there(store, "s0", "a")
    store.link(alias("telegram:1", "s0"))
    worker = host.workers[0]
    worker.link(alias("telegram:1", "s1"))
    worker.apply(start("s1", mode="first"))
    worker.apply(NoteAlias(session_id="s1", owner=None, alias=Alias(None, "telegram:1"), leads_here=True))
    worker.apply(append("s1", "b"))
    host.come_back()
    assert store.follow(Alias(None, "telegram:1"), 1000) == "s0"
    assert texts_in(store, "s0") == ["a", "b"]
    with pytest.raises(SessionMoved) as moved:
        worker.apply(append("s1", "c"))
    assert moved.value.moved_to == "s0"


def test_an_alias_that_leads_to_a_session_that_has_ended_leads_to_the_new_one(host: Host, store: MemoryStore) -> None:
    store.link(alias("telegram:1", "ended"))
    worker = host.workers[0]
    worker.link(alias("telegram:1", "s1"))
    worker.apply(start("s1", "b", mode="first"))
    host.come_back()
    assert store.follow(Alias(None, "telegram:1"), 1000) == "s1"
    assert texts_in(store, "s1") == ["b"]


def test_a_conversation_that_was_moved_meanwhile_is_added_to_where_it_goes_on(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    there(store, "new", "summary")
    host.workers[0].apply(append("s", "b"))
    from flask_convstore.domain.commands import MoveConversation

    store.begin(BeginTurn(session_id="s", owner=None, element=None, lease_ms=9_000, attempt="x"))
    store.apply(MoveConversation(session_id="s", owner=None, turn="x", moved_to="new"))
    host.come_back()
    assert texts_in(store, "new") == ["summary", "b"]


def test_a_continuation_does_not_expire_while_it_waits(host: Host, store: MemoryStore, monkeypatch: Any) -> None:
    from flask_convstore.outages.journal import Journal

    there(store, "s", "a")
    worker, now = host.workers[0], [time.time_ns() // 10**6]
    monkeypatch.setattr(Journal, "now_ms", lambda _: now[0])
    worker.apply(append("s", "b"))
    now[0] += 10 * LIMITS.ttl_ms
    worker.end_expired()
    assert texts_in(worker, "s") == ["b"]
    worker.apply(append("s", "c"))
    fresh = host.workers[1]
    assert texts_in(fresh, "s") == ["b", "c"]


def test_all_of_an_owner_is_forgotten(host: Host, store: MemoryStore) -> None:
    there(store, "shared", "a", owner="ann")
    store.apply(Share(session_id="shared", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    worker.apply(append("shared", "b", owner="guest"))
    host.switch.is_away = False
    worker.forget_owner("guest", [])
    host.come_back()
    assert texts_in(store, "shared", "ann") == ["a"]


def test_fields_and_title_are_changed(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", fields=(("n", b"1"),))
    worker = host.workers[0]
    worker.apply(Update(session_id="s", owner=None, fields=(("n", b"2"),), title="new"))
    worker.apply(Append(session_id="s", owner=None, elements=(), fields=(("m", b"1"),)))
    host.come_back()
    found = store.load("s", None)
    assert found
    assert (found.title, found.fields, texts_in(store, "s")) == ("new", {"n": b"2", "m": b"1"}, ["a"])


def test_several_sessions_are_gone_on_with_together(
    host: Host, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(store, "s", "a")
    away = StoreUnavailable("away", written=None, is_down=True)
    monkeypatch.setattr(host.switch, "apply_each", lambda commands: [away for _ in commands])
    receipts = host.workers[0].apply_each([append("s", "b"), append("t", "c")])
    assert all(receipt.partial for receipt in receipts if not isinstance(receipt, Exception))
    host.come_back()
    assert (texts_in(store, "s"), texts_in(store, "t")) == (["a", "b"], ["c"])


def test_a_server_that_answers_is_not_away(host: Host, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the server refuses work for now (OOM)", written=False)

    monkeypatch.setattr(host.switch, "_call", full)
    with pytest.raises(StoreUnavailable) as error:
        host.workers[0].apply(append("s", "b"))
    assert not isinstance(error.value, NothingKnown)
    assert not host.journals[0].may_hold()


def test_put_of_a_start_of_ours_goes_on_as_before(host: Host) -> None:
    receipt = host.workers[0].apply(Put(session_id="x", owner=None, mode="create", shape="full", may_start_away=True))
    assert receipt.session_id
    assert not receipt.partial
    assert isinstance(merge("s", None), Merge)


def test_what_was_read_in_part_replaces_nothing_when_the_store_is_back(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", fields=(("n", b"1"),))
    worker = host.workers[0]
    worker.apply(append("s", "c"))
    host.come_back()
    worker.apply(start("s", "c", "d", fields=(("n", b"1"),), seen_in_part=1))
    assert texts_in(store, "s") == ["a", "b", "c", "d"]
    with pytest.raises(ConflictError):
        worker.apply(start("s", "e", fields=(("n", b"2"),), seen_in_part=0))
    worker.apply(start("new", "e", seen_in_part=0))
    assert (texts_in(store, "s"), texts_in(store, "new")) == (["a", "b", "c", "d"], ["e"])


def test_a_change_of_a_part_that_was_handed_over_meanwhile_is_added(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", fields=(("n", b"1"),))
    worker = host.workers[0]
    worker.apply(append("s", "c"))
    part = worker.load("s", None)
    assert part
    host.come_back()
    of_part: dict[str, Any] = {"created_at_ms": part.created_at_ms, "loaded_version": part.version}
    worker.apply(append("s", "d", **of_part))
    worker.apply(merge("s", Extend(part.next_seq, (said("e"),)), fields=(FieldChange("m", None, b"1"),), **of_part))
    with pytest.raises(ConflictError):
        worker.apply(merge("s", Rewrite(part.history_version, (said("f"),)), **of_part))
    with pytest.raises(SessionNotFound):
        worker.apply(append("s", "x", created_at_ms=part.created_at_ms + 1))
    found = store.load("s", None)
    assert found
    assert texts_in(store, "s") == ["a", "b", "c", "d", "e"]
    assert found.fields == {"n": b"1", "m": b"1"}


# ---- what is remembered


@pytest.fixture
def warm(store: MemoryStore, tmp_path: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "journal", continues=True, keep_warm=2)
    made.switch.is_away = False
    yield made
    made.close()


def test_what_was_used_last_is_remembered(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", fields=(("n", b"1"),))
    worker, cold = warm.workers
    worker.load("s", None)
    worker.apply(append("s", "c"))
    turn: dict[str, Any] = {"session_id": "s", "owner": None}
    worker.begin(BeginTurn(**turn, element=said("q"), lease_ms=9_000, attempt="x", last=2))
    worker.apply(CommitTurn(**turn, turn="x", elements=(said("r"),), fields=(FieldChange("n", b"1", b"2"),)))
    warm.switch.is_away = True
    found = worker.load("s", None)
    assert found
    assert (texts_in(worker, "s"), found.fields, found.partial, found.seqs) == (
        ["c", "q", "r"],
        {"n": b"2"},
        True,
        range(3, 6),
    )
    last = worker.load("s", None, 1)
    assert last
    assert len(last.elements) == 1
    with pytest.raises(NothingKnown):
        cold.load("s", None)
    begun = worker.begin(BeginTurn(**turn, element=said("q2"), lease_ms=9_000, attempt="y"))
    assert begun.snapshot
    assert begun.receipt.first_seq == 6
    for seer in warm.workers:
        assert texts_in(seer, "s") == ["c", "q", "r", "q2"]
    worker.apply(CommitTurn(**turn, turn="y", elements=(said("r2"),)))
    warm.come_back()
    assert texts_in(store, "s") == ["a", "b", "c", "q", "r", "q2", "r2"]


def test_a_plain_save_of_what_is_remembered_doubles_nothing(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", fields=(("n", b"1"),))
    worker = warm.workers[0]
    worker.load("s", None)
    warm.switch.is_away = True
    worker.apply(start("s", "a", "b", "c", fields=(("n", b"2"),)))
    worker.apply(start("s", "a", "b", "c", "d", fields=(("n", b"3"),)))
    warm.come_back()
    found = store.load("s", None)
    assert found
    assert (texts_in(store, "s"), found.fields) == (["a", "b", "c", "d"], {"n": b"3"})


@pytest.mark.parametrize(
    "command",
    [
        Delete(session_id="s", owner=None),
        Drop(session_id="s", owner=None, newest=1),
        append("s", "x", replaces=1),
        test_fallback.start("s", "x"),
    ],
)
def test_what_is_no_addition_is_forgotten(warm: Host, store: MemoryStore, command: Any) -> None:
    there(store, "s", "a", "b")
    worker = warm.workers[0]
    worker.load("s", None)
    worker.apply(command)
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", None)


def test_what_others_have_changed_is_forgotten(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = warm.workers[0]
    worker.load("s", None)
    store.apply(append("s", "theirs"))
    worker.apply(append("s", "b"))
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", None)


def test_no_more_is_remembered_than_was_asked_for(warm: Host, store: MemoryStore) -> None:
    worker = warm.workers[0]
    for session_id in "abc":
        there(store, session_id, *(str(number) for number in range(8)), owner="ann")
        worker.load(session_id, "ann")
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("a", "ann")
    with pytest.raises(NothingKnown):
        worker.load("c", "eve")
    assert texts_in(worker, "c", "ann") == [str(number) for number in range(8)]


@pytest.mark.parametrize(
    ("ours", "theirs", "seen", "known"),
    [
        ("ab", "ab", 2, 2),
        ("ab", "xayb", 2, 2),  # others' may stand between
        ("abc", "abc", 2, 2),  # no more than was seen
        ("aXc", "abc", 3, 1),  # one that the app has changed
        ("ba", "ab", 2, 1),
        ("aa", "a", 2, 1),
        ("a", "", 1, 0),
        ("ab", "ab", -1, 0),
    ],
)
def test_messages_that_were_read_are_counted_in_their_order(ours: str, theirs: str, seen: int, known: int) -> None:
    def bodies(text: str) -> list[bytes]:
        return [letter.encode() for letter in text]

    assert count_seen(bodies(ours), bodies(theirs), seen) == known
