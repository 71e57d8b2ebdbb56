"""Attacks on sessions that a host goes on with while the store is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    LinkAlias,
    MoveConversation,
    NoteAlias,
    Rewrite,
    Share,
    Update,
)
from flask_convstore.domain.messages import own_id, with_id
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.errors import ConvstoreError, NothingKnown, StoreUnavailable
from flask_convstore.outages.replay import Replayer
from flask_convstore.stores.memory import MemoryStore

from ..processes import wait_for
from ..servers import Server, running
from ..service import Service
from .test_continuation import start, there
from .test_fallback import LIMITS, Host, append, merge, said, texts_in
from .test_outage import handed_over


@pytest.fixture
def owned(store: MemoryStore, tmp_path: Path) -> Iterator[Host]:
    """A host of an app whose sessions have owners."""
    made = Host(store, tmp_path / "owned", continues=True, has_owners=True)
    yield made
    made.close()


@pytest.fixture
def warm(store: MemoryStore, tmp_path: Path) -> Iterator[Host]:
    made = Host(store, tmp_path / "journal", continues=True, keep_warm=5)
    made.switch.is_away = False
    yield made
    made.close()


def test_what_is_gone_is_forgotten(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = warm.workers[0]
    worker.load("s", "ann")
    store.apply(Delete(session_id="s", owner="ann"))
    assert worker.load("s", "ann") is None
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", "ann")


@pytest.mark.parametrize("owner", ["ann", ANY])
def test_a_guest_reads_nothing_of_a_deleted_session(warm: Host, store: MemoryStore, owner: Any) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="reader"))
    worker = warm.workers[0]
    worker.load("s", "guest")
    worker.apply(Delete(session_id="s", owner=owner))
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", "guest")


def test_a_guest_reads_nothing_of_a_session_that_was_deleted_meanwhile(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="reader"))
    worker = warm.workers[0]
    worker.load("s", "guest")
    worker.load("s", "ann")
    warm.switch.is_away = True
    worker.apply(Delete(session_id="s", owner="eve"))
    assert texts_in(worker, "s", "guest") == ["a"]
    worker.apply(Delete(session_id="s", owner="ann"))
    with pytest.raises(NothingKnown):
        worker.load("s", "guest")


def test_a_guest_no_more_reads_nothing(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="reader"))
    worker = warm.workers[0]
    worker.load("s", "guest")
    worker.apply(Share(session_id="s", owner="ann", name="guest", role=None))
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", "guest")


def test_a_forgotten_owner_is_forgotten(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = warm.workers[0]
    worker.load("s", "ann")
    worker.forget_owner("ann", [])
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", "ann")


def test_a_redacted_message_is_not_remembered_for_others(warm: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="reader"))
    worker = warm.workers[0]
    worker.load("s", "guest")
    found = worker.load("s", "ann")
    assert found
    worker.apply(Edit(session_id="s", owner="ann", seq=1, loaded=found.elements[0], element=said("gone")))
    warm.switch.is_away = True
    with pytest.raises(NothingKnown):
        worker.load("s", "guest")


def test_a_look_for_a_session_costs_the_same_beside_many(host: Host) -> None:
    worker, journal = host.workers[0], host.journals[0]

    def steps() -> int:
        taken = []
        with journal.reading() as connection:
            connection.set_progress_handler(lambda: taken.append(1), 1)
            journal.keys("", "s1", ("s1\n", "s1\v"))
            connection.set_progress_handler(None, 1)
        return len(taken)

    worker.apply(append("s1", "a"))
    alone = steps()
    for number in range(2, 60):
        worker.apply(append(f"s{number}", "a"))
    assert steps() < alone + 20


def test_a_refused_write_takes_no_other_along(store: MemoryStore, host: Host) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    worker.apply(append("s", "b", owner="guest"))
    worker.apply(Delete(session_id="s", owner="guest"))
    worker.apply(start("s", "c", owner="guest"))
    worker.apply(append("s", "d", owner="guest"))
    host.come_back()
    assert texts_in(store, "s", "ann") == ["a", "b", "d"]
    assert (len(host.told), host.journals[0].status().aside) == (2, 2)


def test_a_title_of_a_guest_takes_no_message_along(store: MemoryStore, host: Host) -> None:
    there(store, "s", "a", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    worker.apply(append("s", "b", owner="guest"))
    worker.apply(Update(session_id="s", owner="guest", title="mine"))
    worker.apply(append("s", "c", owner="guest"))
    host.come_back()
    assert texts_in(store, "s", "ann") == ["a", "b", "c"]


def test_too_long_a_history_takes_no_other_write_along(tmp_path: Path) -> None:
    limits = replace(LIMITS, trim=False)
    store = MemoryStore(limits)
    host = Host(store, tmp_path / "j", continues=True, limits=limits)
    there(store, "s", *"abcdefgh")
    worker = host.workers[0]
    worker.apply(append("s", "i"))
    worker.apply(Update(session_id="s", owner=None, fields=(("n", b"1"),)))
    worker.apply(Delete(session_id="s", owner=None))
    host.come_back()
    assert len(host.told) == 1
    assert store.load("s", None) is None
    host.close()


def test_a_conversation_that_is_moved_while_it_is_handed_over_is_followed(
    host: Host, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(store, "s", "a")
    there(store, "new", "summary")
    worker = host.workers[0]
    worker.apply(append("s", "b"))
    worker.apply(append("s", "c"))
    call = host.switch._call

    def moving(method: Any, *arguments: Any, **options: Any) -> Any:
        if arguments and isinstance(arguments[0], Append) and b'"c"' in arguments[0].elements[0]:
            monkeypatch.setattr(host.switch, "_call", call)
            store.begin(BeginTurn(session_id="s", owner=None, element=None, lease_ms=9_000, attempt="x"))
            store.apply(MoveConversation(session_id="s", owner=None, turn="x", moved_to="new"))
        return call(method, *arguments, **options)

    monkeypatch.setattr(host.switch, "_call", moving)
    host.come_back()
    assert texts_in(store, "new") == ["summary", "c"]
    assert not host.told


def test_nobody_reads_what_the_server_has_written(owned: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = owned.workers[0]
    worker.apply(append("s", "secret", owner=ANY))
    with pytest.raises(NothingKnown):
        texts_in(worker, "s", None)


def test_nobody_loses_what_the_server_has_written(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = host.workers[0]
    worker.apply(append("s", "of nobody", owner=None))
    worker.apply(append("s", "b", owner=ANY))
    host.come_back()
    assert texts_in(store, "s", ANY) == ["a", "b"]


def test_a_stranger_loses_nothing_of_the_server(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = host.workers[0]
    worker.apply(append("s", "of eve", owner="eve"))
    worker.apply(append("s", "b", owner=ANY))
    host.come_back()
    assert texts_in(store, "s", ANY) == ["a", "b"]
    assert host.journals[0].status().aside == 1


def test_a_stranger_reads_nothing_that_the_server_writes(owned: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="ann")
    worker = owned.workers[0]
    worker.apply(append("s", "of eve", owner="eve"))
    worker.apply(append("s", "secret", owner=ANY))
    assert texts_in(worker, "s", "eve") == ["of eve"]


def test_the_server_reads_nothing_that_a_stranger_writes(owned: Host, store: MemoryStore) -> None:
    there(store, "s", "a", owner="zoe")
    worker = owned.workers[0]
    worker.apply(append("s", "of eve", owner="eve"))
    with pytest.raises(NothingKnown):
        texts_in(worker, "s", ANY)
    worker.apply(append("s", "of the server", owner=ANY))
    assert texts_in(worker, "s", ANY) == ["of the server"]


def test_two_owners_of_one_host_stay_in_order(host: Host, store: MemoryStore) -> None:
    there(store, "s", "0", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    for text, owner in (("q1", "ann"), ("r1", "guest"), ("q2", "ann")):
        worker.apply(append("s", text, owner=owner))
    host.come_back()
    assert texts_in(store, "s", "ann") == ["0", "q1", "r1", "q2"]


def test_in_the_mode_refuse_nothing_is_read_in_part(host: Host, store: MemoryStore, tmp_path: Path) -> None:
    there(store, "s", "a")
    host.workers[0].apply(append("s", "b"))
    refusing = Host(store, tmp_path / "journal")
    worker = refusing.workers[0]
    for read in (
        lambda: worker.load("s", None),
        lambda: worker.messages("s", None, None, 10),
        lambda: worker.message("s", None, 10**12),
    ):
        with pytest.raises(StoreUnavailable) as error:
            read()
        assert not isinstance(error.value, NothingKnown)
    with pytest.raises(StoreUnavailable):
        worker.apply(append("s", "c"))
    refusing.come_back()
    assert texts_in(store, "s") == ["a", "b"]
    refusing.close()


def test_a_plain_save_of_what_was_read_before_doubles_nothing(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b")
    worker = host.workers[0]
    worker.apply(start("s", "a", "b", "c"))
    worker.apply(start("s", "a", "b", "c", "d"))
    theirs = Append(session_id="s", owner=None, elements=(b'1{"at":%d}\n"x"' % (time.time() * 1000 + 100),))
    store.apply(theirs)
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "x", "c", "d"]


def test_a_first_word_that_was_said_before_is_not_lost(host: Host, store: MemoryStore) -> None:
    there(store, "s", "hi")
    host.workers[0].apply(start("s", "hi", seen_in_part=0))
    host.come_back()
    assert texts_in(store, "s") == ["hi", "hi"]


def test_a_plain_save_of_a_part_doubles_nothing_where_others_have_written(
    host: Host, other_host: Host, store: MemoryStore
) -> None:
    there(store, "s", "a", "b")
    worker = host.workers[0]
    worker.apply(append("s", "c"))
    other_host.workers[0].apply(append("s", "x"))
    host.come_back()
    other_host.come_back()
    worker.apply(start("s", "c", "d", seen_in_part=1))
    assert texts_in(store, "s") == ["a", "b", "c", "x", "d"]


def test_a_plain_save_of_what_was_remembered_doubles_nothing_where_others_stand_between(
    warm: Host, other_host: Host, store: MemoryStore
) -> None:
    there(store, "s", "a", "b")
    worker = warm.workers[0]
    worker.load("s", None)
    warm.switch.is_away = True
    worker.apply(append("s", "c"))
    other_host.workers[0].apply(append("s", "x"))
    other_host.come_back()
    warm.come_back()
    worker.apply(start("s", "a", "b", "c", "d", seen_in_part=3))
    assert texts_in(store, "s") == ["a", "b", "x", "c", "d"]


def test_what_is_said_again_is_not_lost(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "hi")
    host.come_back()
    host.workers[0].apply(start("s", "hi", seen_in_part=0))
    assert texts_in(store, "s") == ["a", "hi", "hi"]


def loaded_before(store: MemoryStore, session_id: str) -> dict[str, Any]:
    """Facts of a session, for changes of what was loaded before the store was away."""
    found = store.load(session_id, None)
    assert found
    return {"created_at_ms": found.created_at_ms, "loaded_version": found.version}


def test_a_session_that_was_loaded_before_and_rewritten_doubles_nothing(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", "c")
    found, of_there = store.load("s", None), loaded_before(store, "s")
    assert found
    kept = (found.elements[0], found.elements[2], said("d"))
    host.workers[0].apply(merge("s", Rewrite(found.history_version, kept), **of_there))
    store.apply(append("s", "x"))
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "c", "x", "d"]
    assert host.told


def test_a_session_that_was_loaded_before_and_rewritten_behind_an_own_message(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", "c")
    found, of_there = store.load("s", None), loaded_before(store, "s")
    assert found
    worker = host.workers[0]
    worker.apply(append("s", "own"))
    kept = (found.elements[0], found.elements[2], said("d"))
    worker.apply(merge("s", Rewrite(found.history_version, kept), **of_there))
    worker.apply(append("s", "e"))
    host.come_back()
    assert texts_in(store, "s") == ["a", "b", "c", "own", "d", "e"]


def test_own_messages_are_trimmed_behind_those_of_others(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a", "b", "c")
    of_there = loaded_before(store, "s")
    worker = host.workers[0]
    worker.apply(append("s", "own"))
    worker.apply(merge("s", Extend(3, (said("d"),)), **of_there))
    own = worker.load("s", None)
    assert own
    of_here: dict[str, Any] = {"created_at_ms": own.created_at_ms, "loaded_version": own.version}
    worker.apply(merge("s", Extend(own.seqs[1], (said("e"),)), **of_here))
    host.come_back()
    assert texts_in(store, "s") == ["c", "d", "e"]


def test_a_turn_that_was_answered_before_gets_no_second_reply(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x", token="t", digest="d")
    begun = store.begin(begin)
    this: dict[str, Any] = {"token": f"t\n{begun.receipt.version}", "digest": "x e"}
    end = CommitTurn(session_id="s", owner=None, turn="x", elements=(said("r"),), **this)
    store.apply(end)
    worker = host.workers[0]
    begun = worker.begin(replace(begin, attempt="y"))
    this = {"token": f"t\n{begun.receipt.version}", "digest": "y e"}
    end = CommitTurn(session_id="s", owner=None, turn="y", elements=(said("r2"),), **this)
    worker.apply(end)
    worker.apply(append("s", "n"))
    host.come_back()
    assert texts_in(store, "s") == ["a", "q", "r", "n"]
    assert len(host.told) == 1


def test_a_turn_repeated_on_two_hosts_has_one_reply(host: Host, other_host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    for number, one in enumerate((host, other_host)):
        worker = one.workers[0]
        begin = BeginTurn(
            session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt=f"x{number}", token="t", digest="d"
        )
        begun = worker.begin(begin)
        this: dict[str, Any] = {"token": f"t\n{begun.receipt.version}", "digest": f"x{number} e"}
        worker.apply(CommitTurn(session_id="s", owner=None, turn=f"x{number}", elements=(said(f"r{number}"),), **this))
    host.come_back()
    other_host.come_back()
    assert texts_in(store, "s") == ["a", "q", "r0"]
    assert len(other_host.told) == 1


def test_an_own_message_that_is_changed_in_place_is_changed(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    worker.apply(append("s", "b", "c"))
    found = worker.load("s", None)
    assert found
    kept = (with_id(said("B"), own_id(found.elements[0])), found.elements[1])
    worker.apply(merge("s", Rewrite(found.history_version, kept), created_at_ms=found.created_at_ms))
    assert texts_in(worker, "s") == ["B", "c"]
    host.come_back()
    assert texts_in(store, "s") == ["a", "B", "c"]


def test_a_turn_whose_end_had_landed_is_one(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x", token="t", digest="d")
    begun = store.begin(begin)
    this: dict[str, Any] = {"token": f"t\n{begun.receipt.version}", "digest": "x e"}
    end = CommitTurn(session_id="s", owner=None, turn="x", elements=(said("tool"), said("r")), **this)
    store.apply(end)
    worker = host.workers[0]
    assert worker.apply(end).partial
    worker.apply(append("s", "n"))
    host.come_back()
    assert texts_in(store, "s") == ["a", "q", "tool", "r", "n"]


def test_a_turn_whose_beginning_had_landed_is_one(host: Host, store: MemoryStore) -> None:
    there(store, "s", "a")
    begin = BeginTurn(session_id="s", owner=None, element=said("q"), lease_ms=9_000, attempt="x", token="t", digest="d")
    store.begin(begin)
    host.switch.written = None
    worker = host.workers[0]
    begun = worker.begin(begin)
    this: dict[str, Any] = {"token": f"t\n{begun.receipt.version}", "digest": "x e"}
    end = CommitTurn(session_id="s", owner=None, turn="x", elements=(said("tool"), said("r")), **this)
    worker.apply(end)
    assert worker.apply(end).repeated
    again = worker.begin(replace(begin, attempt="y"))
    assert again.reply
    host.come_back()
    assert not host.told
    assert texts_in(store, "s") == ["a", "q", "tool", "r"]
    again = worker.begin(replace(begin, attempt="z"))
    assert again.reply
    assert texts_in(store, "s") == ["a", "q", "tool", "r"]


# ---- apps


@pytest.fixture
def server() -> Iterator[Server]:
    with running("valkey", "--appendonly", "yes", "--appendfsync", "always") as running_server:
        yield running_server


@pytest.fixture
def service(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """An app whose server has the session "s" with the message "a", and is away."""
    monkeypatch.chdir(tmp_path)
    made = Service(server.url, OUTAGE="continue", RETRIES=0, CIRCUIT_FAILURES=1, PREFIX=f"{tmp_path.name}:")
    with made.app.app_context():
        made.convstore.save_session("s", {"history": [told("a")], "step": 1})
    server.kill()
    return made


def told(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def in_request(service: Service, run: Callable[[], Any]) -> None:
    """Run a function as a view, so that the changes of mappings are written at its end."""
    with service.app.test_request_context():
        service.app.preprocess_request()
        run()
        service.app.process_response(service.app.make_response(""))


def come_back(server: Server, service: Service) -> None:
    server.start()
    handed_over(service)


def stored(service: Service) -> tuple[list[str], Any]:
    with service.app.app_context():
        session = service.convstore.get_session("s")
    assert session
    return [message["content"] for message in session["history"]], session.get("step")


LOOKS: dict[str, Callable[[Service], Any]] = {
    "get_session": lambda service: service.convstore.get_session("s"),
    "exists": lambda service: service.convstore.exists("s"),
    "get": lambda service: service.convstore.sessions.get("s"),
    "in": lambda service: "s" in service.convstore.sessions,
}
SAVES: dict[str, Callable[[Service], Any]] = {
    "save_session": lambda service: service.convstore.save_session("s", {"history": [told("b")]}),
    "mapping": lambda service: service.convstore.sessions.update({"s": {"history": [told("b")]}}),
}


@pytest.mark.server
@pytest.mark.parametrize("is_request", [True, False])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("save", SAVES)
def test_what_was_not_read_is_not_replaced(
    server: Server, service: Service, look: str, save: str, is_request: bool
) -> None:
    def run() -> None:
        assert not LOOKS[look](service)
        come_back(server, service)
        SAVES[save](service)

    if is_request:
        in_request(service, run)
    else:
        with service.app.app_context():
            run()
    assert stored(service) == (["a", "b"], 1)


@pytest.mark.server
def test_a_mapping_goes_on_where_nothing_was_found(server: Server, service: Service) -> None:
    def go_on() -> None:
        session = service.convstore.sessions.get("s") or {"history": [], "step": 7}
        session["history"].append(told("b"))
        service.convstore.sessions["s"] = session

    in_request(service, go_on)
    in_request(service, go_on)
    come_back(server, service)
    assert stored(service) == (["a", "b", "b"], 1)


def test_a_session_of_an_owner_who_is_deleted_is_deleted(
    host: Host, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(store, "s", "a", owner="ann")
    worker = host.workers[0]
    worker.apply(append("s", "b", owner="ann"))
    time.sleep(0.003)
    store.apply(append("s", "of another host", owner="ann"))
    forgotten_ms = time.time_ns() // 10**6
    monkeypatch.setattr(store, "forgotten_at_ms", lambda owners: dict.fromkeys(owners, forgotten_ms))
    worker.apply(Delete(session_id="s", owner="ann"))
    host.come_back()
    assert store.load("s", "ann") is None


@pytest.mark.server
def test_nothing_works_on_the_whole_of_a_session_before_all_is_handed_over(
    server: Server, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = service.convstore
    come_back(server, service)
    with service.app.app_context():
        store.delete_session("s")
        store.save_session("s", {"history": [told("a")], "step": 1}, owner="ann")
        server.kill()
        with monkeypatch.context() as patched:
            patched.setattr(Replayer, "_replay", lambda _: None)
            store.append("s", told("b"), owner="ann")
            server.start()
            wait_for(lambda: store.health().connected, "it is not found back")
            for work in (
                lambda: store.compact("s", "a summary", keep=1, owner="ann"),
                lambda: store.fork("s", owner="ann"),
                lambda: list(store.export_owner(owner="ann")),
            ):
                with pytest.raises(ConvstoreError):
                    work()
    handed_over(service)
    assert stored(service) == (["a", "b"], 1)


@pytest.mark.xfail(strict=True, reason="a message without its id, and one that was moved, goes behind the others")
@pytest.mark.parametrize("kept", [("b", "X", "d"), ("d", "c", "b")])
def test_own_messages_keep_the_order_that_they_are_given(host: Host, store: MemoryStore, kept: tuple[str, ...]) -> None:
    there(store, "s", "a")
    worker = host.workers[0]
    worker.apply(append("s", "b", "c", "d"))
    found = worker.load("s", None)
    assert found
    own = dict(zip("bcd", found.elements, strict=True))
    elements = tuple(own.get(text, said(text)) for text in kept)
    worker.apply(merge("s", Rewrite(found.history_version, elements), created_at_ms=found.created_at_ms))
    host.come_back()
    assert texts_in(store, "s") == ["a", *kept]


@pytest.mark.parametrize("first", [0, 1])
def test_an_alias_on_two_hosts_leads_to_one_session(
    host: Host, other_host: Host, store: MemoryStore, first: int
) -> None:
    resolved(host.workers[0], "tg", "s1", "a", owner="ann")
    resolved(other_host.workers[0], "tg", "s2", "b", owner="ann")
    hosts = [host, other_host]
    hosts[first].come_back()
    hosts[1 - first].come_back()
    led = store.follow(Alias("ann", "tg"), 1000)
    assert led
    assert sorted(texts_in(store, led, "ann") or []) == ["a", "b"]
    assert not host.told + other_host.told


@pytest.mark.xfail(strict=True, reason="an alias that leads to nothing yet is handed over before its session begins")
def test_an_alias_that_is_handed_over_before_its_session_begins_leads_to_it(host: Host, store: MemoryStore) -> None:
    there(store, "s0", "a")
    store.link(alias("tg", "s0"))
    worker = host.workers[0]
    led = worker.link(alias("tg", "s1"))
    assert led == "s1"
    host.come_back()
    host.switch.is_away = True
    worker.apply(start(led, mode="first"))
    worker.apply(NoteAlias(session_id=led, owner=None, alias=Alias(None, "tg"), leads_here=True))
    worker.apply(append(led, "b"))
    host.come_back()
    assert store.follow(Alias(None, "tg"), 1000) == "s0"
    assert texts_in(store, "s0") == ["a", "b"]


def alias(name: str, session_id: str | None, expected: Any = None, owner: str | None = None) -> LinkAlias:
    return LinkAlias(alias=Alias(owner, name), session_id=session_id, expected=expected, lifetime_ms=10**6)


def resolved(worker: Any, name: str, session_id: str, *texts: str, owner: str | None = None) -> str:
    """Do as ``resolve(create=True)`` and append."""
    led: str = worker.link(alias(name, session_id, owner=owner))
    try:
        found = worker.load(led, owner)
    except NothingKnown:
        found = None
    if found is None:
        worker.apply(start(led, mode="first", owner=owner))
        worker.apply(NoteAlias(session_id=led, owner=owner, alias=Alias(owner, name), leads_here=True))
    for text in texts:
        worker.apply(append(led, text, owner=owner))
    return led


def test_two_owners_who_both_have_a_turn_are_handed_over(host: Host, store: MemoryStore) -> None:
    there(store, "s", "0", owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="guest", role="writer"))
    worker = host.workers[0]
    turns: list[dict[str, Any]] = [{"session_id": "s", "owner": owner} for owner in ("ann", "guest")]
    for number, turn in enumerate(turns):
        worker.begin(BeginTurn(**turn, element=said(f"q{number}"), lease_ms=60_000, attempt=str(number)))
    for number, turn in reversed(list(enumerate(turns))):
        worker.apply(CommitTurn(**turn, turn=str(number), elements=(said(f"r{number}"),)))
    host.come_back()
    assert texts_in(store, "s", "ann") == ["0", "q0", "r0", "q1", "r1"]
    assert not host.told
