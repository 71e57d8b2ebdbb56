"""Types that JSON lacks: with CONVSTORE_TYPES=tagged a mapping gives back what went in, as a dict beside it does."""

from __future__ import annotations

import copy
import datetime as dt
import functools
import threading
import uuid
from collections.abc import Callable
from decimal import Decimal
from types import GenericAlias
from typing import Any

import pytest

from flask_convstore import CorruptValue, InvalidInput, Message, NotSerializable

from ..domain.test_value_types import typed
from ..processes import wait_for
from ..servers import Server
from ..service import Service, in_memory
from ..telemetry.test_signals import heard
from .test_mapping import Site
from .test_overlaps import begins, does, overlap

AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(hours=1)
ID, OTHER_ID = uuid.UUID(int=5), uuid.UUID(int=6)

VALUES: dict[str, Any] = {
    "datetime": AT,
    "naive datetime": dt.datetime(2026, 1, 2),
    "date": dt.date(2026, 1, 2),
    "time": dt.time(3, 4, 5),
    "timedelta": dt.timedelta(days=1, microseconds=7),
    "UUID": ID,
    "Decimal": Decimal("1.10"),
    "set": {"ada", ID, ("q", 1)},
    "frozenset": frozenset({1, 2}),
    "tuple": ("q", 1, [AT]),
    "bytes": b"\x00\xff",
    "int keys": {1: "a", 2: {3: AT}},
    "tuple keys": {("q", 1): {"x"}, None: 1, AT: 2},
    "deep": {"a": [{"b": ({"c": {ID: [AT, {Decimal("0.1")}]}},)}]},
    "an app's tag": {"$convstore": "datetime", "value": "2026-01-01"},
}


def tagged_site(url: str, **config: Any) -> Site:
    return Site(url, TYPES="tagged", **config)


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_comes_back_in_the_next_request(url: str, kind: str) -> None:
    """In a field, in a message, in a list and as a value of a mapping, after a restart too. Reading writes nothing."""
    site, value = tagged_site(url), VALUES[kind]
    plain: dict[str, Any] = {"s": {"field": value, "history": [{"role": "user", "at": value}, value], "n": [value]}}
    notes = {"bare": [value], "value": value}

    def put() -> None:
        site.sessions["s"] = copy.deepcopy(plain["s"])
        site.convstore.mapping("notes").update(
            {k: v for k, v in notes.items() if kind not in NOT_AS_VALUES or k == "bare"}
        )

    def get() -> None:
        assert typed(dict(site.sessions["s"])) == typed(plain["s"])
        assert typed(list(site.convstore.mapping("notes")["bare"])) == typed(notes["bare"])
        if kind not in NOT_AS_VALUES:
            found = site.convstore.mapping("notes")["value"]
            assert typed(dict(found) if isinstance(found, dict) else found) == typed(value)

    site.ok(put)
    site.ok(get)
    version = site.stored().version
    if url != "memory://":
        site = tagged_site(url)
        site.ok(get)
    site.ok(get)
    assert site.stored().version == version
    assert typed(dict(site.stored())) == typed(plain["s"])
    assert typed(site.stored().messages[0].body) == typed(plain["s"]["history"][0])


NOT_AS_VALUES = ("int keys", "tuple keys")
"""The keys of a whole value are names of fields, which are texts."""

Change = Callable[[Any], Any]


def spend(price: str) -> Change:
    return lambda s: s.update(price=s["price"] + Decimal(price))


OVERLAPS: dict[str, tuple[Any, Change, Change, Any, list[str]]] = {
    "a set": (
        {"tags": {"a", "b"}},
        lambda s: (s["tags"].add("c"), s["tags"].discard("a")),
        lambda s: s["tags"].add("d"),
        {"tags": {"b", "c", "d"}},
        [],
    ),
    "a set of tuples in a dict": (
        {"u": {"asked": {("q", 1)}}},
        lambda s: s["u"]["asked"].add(("q", 2)),
        lambda s: s["u"]["asked"].add(("q", 3)),
        {"u": {"asked": {("q", 1), ("q", 2), ("q", 3)}}},
        [],
    ),
    "sets that both begin": (
        {}, lambda s: s.update(a={1}), lambda s: s.update(a={2}), {"a": {1, 2}}, []
    ),
    "a frozenset": (
        {"a": frozenset({1})},
        lambda s: s.update(a=s["a"] | {2}),
        lambda s: s.update(a=s["a"] | {3}),
        {"a": frozenset({1, 2, 3})},
        [],
    ),
    "datetimes in a dict": (
        {"at": {"ada": AT}},
        lambda s: s["at"].update(ada=LATER, bob=AT),
        lambda s: s["at"].update(eve=AT),
        {"at": {"ada": LATER, "bob": AT, "eve": AT}},
        [],
    ),
    "a time that both set": (
        {"seen": AT}, lambda s: s.update(seen=LATER), lambda s: s.update(seen=AT.replace(year=2025)), {"seen": LATER}, []
    ),
    "int keys": (
        {"n": {1: 1}},
        lambda s: s["n"].update({1: s["n"][1] + 1, 2: 1}),
        lambda s: s["n"].update({1: s["n"][1] + 1, 3: 1}),
        {"n": {1: 3, 2: 1, 3: 1}},
        [],
    ),
    "int keys of a dict that was empty": (
        {"n": {}}, lambda s: s["n"].update({1: "a"}), lambda s: s["n"].update({"1": "b"}), {"n": {1: "a", "1": "b"}}, []
    ),
    "int keys that one removes": (
        {"n": {1: "a"}}, lambda s: s["n"].pop(1), lambda s: s["n"].update({2: "b"}), {"n": {2: "b"}}, []
    ),
    "a tuple at each place": (
        {"at": (1, "x")}, lambda s: s.update(at=(2, "x")), lambda s: s.update(at=(1, "y")), {"at": (2, "y")}, []
    ),
    "tuples in a list": (
        {"asked": [("q", 1)]},
        lambda s: s["asked"].append(("q", 2)),
        lambda s: s["asked"].append(("q", 3)),
        {"asked": [("q", 1), ("q", 2), ("q", 3)]},
        [],
    ),
    "a price": ({"price": Decimal("1.0")}, spend("0.1"), spend("0.2"), {"price": Decimal("1.2")}, ["price"]),
    "ids": (
        {"id": None}, lambda s: s.update(id=ID), lambda s: s.update(id=OTHER_ID), {"id": OTHER_ID}, ["id"]
    ),
    "messages with times": (
        {"history": [{"at": AT}]},
        lambda s: s["history"].append({"at": LATER}),
        lambda s: s["history"].append({"at": (LATER,)}),
        {"history": [{"at": AT}, {"at": LATER}, {"at": (LATER,)}]},
        [],
    ),
    "a history of tuples that is trimmed": (
        {"history": [("u", AT), ("a", LATER)]},
        lambda s: s["history"].pop(0),
        lambda s: s["history"].append(("u", LATER)),
        {"history": [("a", LATER), ("u", LATER)]},
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OVERLAPS)
def test_overlapping_requests_keep_both_changes(url: str, case: str) -> None:
    start, first, second, expected, paths = OVERLAPS[case]
    site = tagged_site(url)
    site.put("s", copy.deepcopy(start))
    with heard(site) as told:
        overlap(site.sessions, [does(first), does(second)], site)
    assert typed(dict(site.stored())) == typed(expected)
    assert [path for name, facts in told if name == "changes-overwritten" for path in facts["fields"]] == paths


@pytest.mark.parametrize("case", OVERLAPS)
def test_one_after_the_other_is_as_with_a_dict(case: str) -> None:
    start, first, second, _, _ = OVERLAPS[case]
    site, beside = tagged_site("memory://"), {"s": copy.deepcopy(start)}
    site.put("s", copy.deepcopy(start))
    for change in (first, second):
        change(beside["s"])
        site.ok(functools.partial(lambda made: made(site.sessions["s"]), change))
    assert typed(dict(site.stored())) == typed(beside["s"])


TEXTS: dict[str, Any] = {"2026-01-31": dt.date(2026, 1, 31), "1.5": Decimal("1.5"), str(ID): ID}

BESIDE: dict[str, Callable[[Any], object]] = {
    "nothing": lambda history: None,
    "a new message": lambda history: history.append({"new": "x"}),
    "another message": lambda history: history[-1].update(z="y"),
    "the oldest dropped": lambda history: history.pop(0),
    "the newest dropped": lambda history: history.pop(),
    "the window moved": lambda history: (history.pop(0), history.append({"new": "x"})),
}


@pytest.mark.parametrize("length", [3, 201, 450])
@pytest.mark.parametrize("beside", BESIDE)
def test_a_type_that_replaces_its_own_text_is_a_change(length: int, beside: str) -> None:
    """However long the history is, and whatever else changes."""
    site = tagged_site("memory://")
    plain = [{"at": place, **dict.fromkeys(TEXTS), "pair": [1, 2]} for place in map(str, range(length))]
    for message in plain:
        message.update({text: text for text in TEXTS})
    site.put("s", {"history": copy.deepcopy(plain)})

    def change(history: list[Any]) -> None:
        history[1].update(TEXTS, pair=(1, 2))
        BESIDE[beside](history)

    site.ok(lambda: change(site.sessions["s"]["history"]))
    change(plain)
    assert typed(list(site.stored()["history"])) == typed(plain)


def test_sets_that_two_requests_begin_with_make_one(url: str) -> None:
    site = tagged_site(url)
    start: dict[str, Any] = {"tags": set(), "n": {}}
    changes: list[Change] = [
        lambda s: (s["tags"].add("a"), s["n"].update({1: AT})),
        lambda s: (s["tags"].add("b"), s["n"].update({2: AT})),
    ]
    overlap(site.sessions, [begins(start, change) for change in changes], site)
    assert typed(dict(site.stored())) == typed({"tags": {"a", "b"}, "n": {1: AT, 2: AT}})


def test_a_conflict_is_an_error_where_the_app_wants_one(url: str, caplog: pytest.LogCaptureFixture) -> None:
    site = tagged_site(url, CONFLICT="raise")
    site.put("s", {"tags": {"a"}})
    overlap(site.sessions, [does(lambda s: s["tags"].add("b")), does(lambda s: s["tags"].add("c"))], site)
    assert "tags was changed by another write" in caplog.text
    assert site.stored()["tags"] == {"a", "b"}


@in_memory
def test_one_mapping_may_be_tagged_alone(url: str) -> None:
    site = Site(url)
    games = site.convstore.mapping("games", types="tagged")
    site.ok(lambda: games.update(a={"seen": {1}}, b=("x", AT)))

    def view() -> None:
        assert dict(games["a"]) == {"seen": {1}}
        assert games["b"] == ("x", AT)
        with pytest.raises(NotSerializable, match="CONVSTORE_TYPES=tagged"):
            site.convstore.save_session("s", {"seen": {1}})

    site.ok(view)
    with pytest.raises(InvalidInput, match="types"):
        site.convstore.mapping("others", types="pickled")  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="another types"):
        site.convstore.mapping("games", types="plain")


@in_memory
def test_a_set_that_a_thread_holds_may_change_when_the_request_is_over(url: str) -> None:
    site = tagged_site(url)
    site.put("s", {"u": {"tags": {"a"}}})
    answered, threads = threading.Event(), []

    def view() -> None:
        tags = site.sessions["s"]["u"]["tags"]

        def later() -> None:
            assert answered.wait(10)
            tags.add("late")

        threads.append(threading.Thread(target=later))
        threads[0].start()

    site.ok(view)
    answered.set()
    threads.pop().join()
    wait_for(lambda: site.stored()["u"]["tags"] == {"a", "late"}, "the change of the thread is lost")


HINTS: dict[Any, Any] = {
    dt.datetime: AT,
    dt.date: AT.date(),
    dt.time: dt.time(3, 4, 5, 10_000),
    dt.timedelta: dt.timedelta(days=1, microseconds=7),
    uuid.UUID: ID,
    Decimal: Decimal("1.10"),
    set[uuid.UUID]: {ID},
    frozenset[str]: frozenset({"a"}),
    tuple[str, int, list[dt.datetime]]: ("q", 1, [AT]),
    bytes: b"\x00\xff",
    dict[str, tuple[Decimal, ...]]: {"a": (Decimal(1),)},
}


@pytest.mark.parametrize("kind", HINTS, ids=str)
@pytest.mark.parametrize("types", ["plain", "tagged"])
def test_type_hints_bring_each_type_back(url: str, kind: Any, types: str, caplog: pytest.LogCaptureFixture) -> None:
    """One after the other, after a restart, and when two requests overlap, in a plain store and a tagged one."""
    site, value = Site(url, TYPES=types), HINTS[kind]
    of_kind: Any = GenericAlias(dict, (str, kind))

    def hinted(site: Site) -> Any:
        return site.convstore.mapping("hinted", load=of_kind)

    def same(expected: dict[str, Any]) -> Callable[[], None]:
        def view() -> None:
            assert typed(hinted(site)["s"]) == typed(expected)

        return view

    site.ok(lambda: hinted(site).update(s={"a": value}))
    site.ok(same({"a": value}))
    site = site if url == "memory://" else Site(url, TYPES=types)
    overlap(hinted(site), [does(lambda s: s.update(b=value)), does(lambda s: s.update(c=value))], site)
    site.ok(same({"a": value, "b": value, "c": value}))
    assert not caplog.records


@in_memory
def test_a_held_set_is_brought_up_to_date_in_place(url: str) -> None:
    site = tagged_site(url)
    site.put("s", {"tags": {"a"}, "rows": [({"b"}, AT)]})

    def view() -> None:
        tags = site.sessions["s"]["tags"]
        site.convstore.update_session("s", data={"tags": {"a", "c"}, "rows": []})
        assert tags == {"a", "c"}
        tags.add("d")

    site.ok(view)
    assert site.stored()["tags"] == {"a", "c", "d"}


def test_every_other_door_takes_and_gives_them(url: str) -> None:
    site = tagged_site(url)
    convstore, app = site.convstore, site.app
    with app.app_context():
        saved = convstore.save_session("s", {"tags": {"a"}, "history": [{"role": "user", "content": "hi", "at": AT}]})
        saved["tags"].add("b")
        convstore.save_session("s", saved)
        convstore.append("s", {"role": "user", "content": ("x", ID)}, data={"n": {1: 2}})
        convstore.update_session("s", data={"day": AT.date()})
        with convstore.turn("s", Message({"role": "user", "content": "hi", "at": AT}, metadata={"at": AT})) as turn:
            assert typed(turn.message.body["at"]) == typed(AT)
            assert typed(turn.history[-2]["content"]) == typed(("x", ID))
            turn.data["tags"].add("c")
            turn.reply({"role": "assistant", "content": "yo", "at": LATER})
        found: Any = convstore.get_session("s")
        assert typed(found["tags"]) == typed({"a", "b", "c"})
        assert (found["n"], found["day"]) == ({1: 2}, AT.date())
        assert found["history"][-1]["at"] == LATER
        assert found.message(3).metadata == {"at": AT}
        convstore.edit_message("s", 1, lambda body: {**body, "at": LATER}, keep=True)
        edited: Any = convstore.get_session("s")
        assert edited.message(1).body["at"] == LATER
        assert edited.message(1).edits[0]["at"] == AT
        copied: Any = convstore.fork("s")
        assert typed(dict(copied)) == typed(dict(edited))
        shorter: Any = convstore.compact("s", lambda bodies: f"{bodies[0]['at']:%Y}", keep=1)
        assert typed(shorter["history"][-1]["at"]) == typed(LATER)
        assert convstore.redact_message("s", 1).body == {"role": "user", "content": ""}


def test_http_sees_plain_json_and_writes_no_tags(url: str) -> None:
    service = Service(url, TYPES="tagged")
    service.convstore.reply(lambda turn: {"role": "assistant", "content": "yo", "at": AT, "tags": {2, 1}})
    evil = {"$convstore": "datetime", "value": "2026-01-01T00:00:00"}
    sid = service.start(data={"evil": evil, "x": 1})
    said = service.say(sid, [{"type": "x", **evil}], metadata={"evil": evil})
    assert said["message"]["content"] == [{"type": "x", **evil}]
    assert said["message"]["metadata"] == {"evil": evil}
    assert said["reply"]["at"] == AT.isoformat()
    assert said["reply"]["tags"] == [1, 2]
    with service.app.app_context():
        stored: Any = service.convstore.get_session(sid)
        assert stored["evil"] == evil
        assert stored["history"][0]["content"] == [{"type": "x", **evil}]
        assert typed(stored["history"][1]["tags"]) == typed({1, 2})
        service.convstore.update_session(sid, data={"tags": {"b", "a"}, "n": {1: dt.timedelta(seconds=9)}})
    shown = service.get(sid)
    assert shown["data"] == {"evil": evil, "x": 1, "tags": ["a", "b"], "n": {"1": 9}}
    assert shown["history"][1]["at"] == AT.isoformat()
    patched = service.client.patch(f"/sessions/{sid}", json={"data": {"tags": evil}})
    assert service.json(patched, 200)["data"]["tags"] == evil
    with service.app.app_context():
        found: Any = service.convstore.get_session(sid)
        assert found["tags"] == evil


def test_what_clients_send_is_told_as_no_change_of_types(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(url)
    sid = service.start(data={"a": [{"b": None}]})
    service.say(sid, [{"type": "text", "text": "hi", "n": 1.5}], metadata={"m": [1]})
    assert service.client.patch(f"/sessions/{sid}", json={"data": {"c": {"d": [True]}}}).status_code == 200
    assert not caplog.records


def test_an_export_is_plain_json(url: str) -> None:
    site = tagged_site(url)
    with site.app.app_context():
        site.convstore.save_session("s", {"tags": {"a"}, "history": [{"at": AT}]}, owner="ada")
        (line,) = site.convstore.export_owner(owner="ada")
        assert line["data"] == {"tags": ["a"]}
        assert line["messages"][0]["body"] == {"at": AT.isoformat()}


def test_a_plain_app_reads_what_a_tagged_one_wrote_and_keeps_the_tags(valkey: Server) -> None:
    """While CONVSTORE_TYPES is changed both kinds of processes run side by side."""
    tagged, plain = tagged_site(valkey.url), Site(valkey.url)
    tagged.put("s", {"tags": {"a"}, "at": AT, "history": [{"at": AT}, {"at": LATER}]})

    def read() -> None:
        assert typed(plain.sessions["s"]["tags"]) == typed({"a"})

    plain.ok(read)
    assert plain.stored().version == 1, "reading wrote something"

    def write() -> None:
        session = plain.sessions["s"]
        session["tags"].add("b")
        session["new"] = AT
        del session["history"][0]
        session["history"].append({"at": AT})

    plain.ok(write)
    found = tagged.stored()
    assert (typed(found["tags"]), typed(found["at"])) == (typed({"a", "b"}), typed(AT))
    assert found["new"] == AT.isoformat(), "a new value of a plain app is plain"
    assert found["history"][0] == {"at": LATER}
    with tagged.app.app_context():
        session: Any = plain.convstore.get_session("s")
        session["tags"].add("c")
        assert plain.convstore.save_session("s", session)["tags"] == {"a", "b", "c"}


def test_a_tagged_app_reads_what_a_plain_one_wrote(valkey: Server) -> None:
    plain, tagged = Site(valkey.url), tagged_site(valkey.url)
    plain.put("s", {"at": AT, "evil": {"$convstore": "set", "value": []}, "history": [{"at": AT}]})

    def read() -> None:
        session = tagged.sessions["s"]
        assert session["at"] == session["history"][0]["at"] == AT.isoformat()
        assert session["evil"] == {"$convstore": "set", "value": []}

    tagged.ok(read)
    assert tagged.stored().version == 1


def test_the_journal_keeps_them(valkey: Server) -> None:
    """A session that is started while the server is away."""
    site = tagged_site(valkey.url.replace(str(valkey.port), "1"), RETRIES=0, CONNECT_TIMEOUT=0.1)
    with site.app.app_context():
        site.convstore.save_session("s", {"tags": {"a"}, "n": {1: AT}})
        found: Any = site.convstore.get_session("s")
        assert found.fallback == "journal"
        assert typed(dict(found)) == typed({"tags": {"a"}, "n": {1: AT}})


def test_a_damaged_tag_is_an_error_that_names_its_place(valkey: Server) -> None:
    site = tagged_site(valkey.url)
    site.put("s", {"tags": {"a"}, "history": [{"at": AT}]})
    valkey.client.hset("chat:session:{s}", "d:tags", b'{"$convstore":"module","value":"os"}')
    with pytest.raises(CorruptValue, match="d:tags"):
        site.stored()
    valkey.client.hset("chat:session:{s}", "d:tags", b"[]")
    element = valkey.client.lindex("chat:session:{s}:history", 0)
    assert isinstance(element, bytes)
    valkey.client.lset("chat:session:{s}:history", 0, element.replace(b"datetime", b"module").decode())
    with pytest.raises(CorruptValue, match="seq 1"):
        site.stored()
