"""The late writer: no change is lost or written twice, nothing stops it, and nothing grows for ever."""

from __future__ import annotations

import _thread
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_convstore import signals
from flask_convstore.app.current import _of_thread
from flask_convstore.errors import StoreUnavailable
from flask_convstore.mapping import late_writer as module
from flask_convstore.mapping import unit_of_work
from flask_convstore.mapping.late_writer import LateWriter, late_writer
from flask_convstore.mapping.unit_of_work import Unit

from ..servers import Server
from ..service import Service, heard
from .test_outside_requests import in_thread, request, stored, until


@pytest.fixture
def site() -> Service:
    site = Service("memory://")
    with site.app.app_context():
        site.convstore.sessions["s"] = {"n": 0, "messages": []}
    return site


class Outage:
    """Lets a store refuse each write while it lasts."""

    def __init__(self, site: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        store: Any = site.app.extensions["convstore"]["convstore"].backend.store
        apply = store.apply
        self.lasts = False
        self.tries = 0

        def refused(command: Any) -> Any:
            if not self.lasts:
                return apply(command)
            self.tries += 1
            raise StoreUnavailable("the store is away", written=False)

        monkeypatch.setattr(store, "apply", refused)


def forget_all() -> None:
    """Drop what nobody holds, as the late writer does at any moment."""
    for watched in list(late_writer._watched):
        watched.unit.forget_unheld()


# ---- nothing is lost


def test_a_change_that_is_not_written_yet_is_never_dropped(site: Service) -> None:
    def work() -> None:
        site.convstore.sessions["s"]["n"] += 1
        for _ in range(100):
            forget_all()

    in_thread(work)
    until(lambda: stored(site)["n"] == 1)


def test_counting_in_threads_loses_nothing_while_the_late_writer_works(site: Service) -> None:
    def work(number: int) -> None:
        site.convstore.sessions[f"c{number}"] = {"n": 0}
        for _ in range(1000):
            site.convstore.sessions[f"c{number}"]["n"] += 1

    stop = threading.Event()

    def drop() -> None:
        while not stop.is_set():
            forget_all()

    dropping = threading.Thread(target=drop)
    dropping.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    stop.set()
    dropping.join()
    until(lambda: [stored(site, f"c{number}") for number in range(4)] == [{"n": 1000}] * 4)


def test_a_slow_default_is_assigned(site: Service) -> None:
    """The late writer may drop the empty place meanwhile."""

    def default() -> Any:
        forget_all()
        return {"n": 1}

    values = site.convstore.mapping("slow", default=default)

    def work() -> None:
        values["v"]["n"] += 1

    in_thread(work)

    def is_written() -> bool:
        with site.app.app_context():
            return values.get("v") == {"n": 2}

    until(is_written)


def test_an_object_that_was_replaced_may_be_changed_again_and_again(site: Service) -> None:
    """The app holds an object of its class, while others write another one in its place."""

    class Plain:
        def __init__(self, n: int = 0, m: int = 0) -> None:
            self.n, self.m = n, m

    values: Any = site.convstore.mapping("plain", load=lambda data: Plain(**data), dump=vars)

    def change(**fields: int) -> None:
        with site.app.app_context():
            vars(values["v"]).update(fields)

    with site.app.app_context():
        values["v"] = Plain()
        held = values["v"]
        in_thread(lambda: change(m=1))
        assert values["v"] is not held
        for _ in range(2):
            held.n += 1
            values.flush()

    with site.app.app_context():
        assert vars(values["v"]) == {"n": 2, "m": 1}


def test_a_value_that_cannot_be_stored_holds_up_no_other_and_is_told_once(
    site: Service, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def work() -> None:
        sessions = site.convstore.sessions
        sessions["bad"] = {"n": 0}
        sessions["bad"]["n"] = object()
        sessions["s"]["n"] = 1
        assert done.wait(10)
        sessions["bad"]["n"] = 2

    thread = threading.Thread(target=work)
    with heard(signals.changes_lost, site.app) as lost:
        thread.start()
        until(lambda: stored(site)["n"] == 1)
        time.sleep(0.5)  # several looks
        assert len([text for text in caplog.messages if "cannot be written" in text]) == 1
        assert len(lost) == 1
        done.set()
        thread.join()
        until(lambda: stored(site, "bad") == {"n": 2})


def test_a_change_is_kept_while_the_store_is_away(
    site: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that made it has long ended. The store is tried in growing pauses, and the log is not flooded."""
    outage = Outage(site, monkeypatch)

    def work() -> None:
        site.convstore.sessions["s"]["n"] += 1
        outage.lasts = True

    with heard(signals.changes_lost, site.app) as lost:
        in_thread(work)
        until(lambda: outage.tries >= 3)
        assert len([text for text in caplog.messages if "not written yet, and kept" in text]) == 1
        outage.lasts = False
        until(lambda: stored(site)["n"] == 1)
    assert not lost


def test_an_app_context_whose_error_was_raised_writes_nothing_later(
    site: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told does all again. A late write would do it twice."""
    outage = Outage(site, monkeypatch)
    held = []
    for lasts in (True, False):
        outage.lasts = False
        try:
            with site.app.app_context():
                held.append(site.convstore.sessions["s"])
                held[-1]["n"] += 1
                outage.lasts = lasts
        except StoreUnavailable:
            assert lasts
    LateWriter.write_all(late_writer)
    vars(_of_thread).clear()  # the process goes on, and this thread begins anew
    assert stored(site)["n"] == 1


# ---- nothing stops it


def test_an_error_with_one_unit_does_not_end_the_watch(
    site: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer, bad, good = LateWriter(), Unit(), Unit()
    monkeypatch.setattr(bad, "is_held", lambda: 1 / 0)
    writer.watch(bad)
    writer.watch(good)
    until(lambda: good not in [watched.unit for watched in writer._watched])
    assert "ZeroDivisionError" in caplog.text


def test_too_many_units_are_given_up_and_their_changes_written(
    site: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that holds a session of each request must not make the process grow."""
    monkeypatch.setattr(module, "_MOST_UNITS", 5)
    cache: list[Any] = []

    def view() -> None:
        cache.append(site.convstore.sessions.setdefault(f"v{len(cache)}", {"n": 0}))

    for _ in range(20):
        request(site, view)
    cache[-1]["n"] = 1
    until(lambda: len(late_writer._watched) <= 5)
    until(lambda: stored(site, "v19") == {"n": 1})
    assert len([text for text in caplog.messages if "more than 5 units" in text]) == 1
    cache.clear()


def test_the_unit_of_a_thread_that_goes_on_is_not_given_up(site: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not changed for longer than any other. Its later changes were lost, and nobody was told."""
    may_change = threading.Event()
    cache: list[Any] = []

    def work() -> None:
        here = site.convstore.sessions["s"]
        monkeypatch.setattr(module, "_MOST_UNITS", 3)
        assert may_change.wait(20)
        here["n"] = 7
        until(lambda: stored(site)["n"] == 7)

    def view() -> None:
        cache.append(site.convstore.sessions.setdefault(f"v{len(cache)}", {"n": 0}))

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        time.sleep(0.5)  # looks at it become rare
        for _ in range(10):
            request(site, view)
        until(lambda: len([one for one in late_writer._watched if not one.goes_on()]) <= 3)
        may_change.set()
        working.result()


def test_a_held_dict_may_grow_while_it_is_looked_at(site: Service, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()

    def grow(value: dict[str, Any]) -> None:
        while not stop.wait(0.00001):
            value[f"k{time.monotonic_ns()}"] = [None]
            if len(value) > 500:
                value.clear()

    def view() -> None:
        threading.Thread(target=grow, args=[site.convstore.sessions["s"]], daemon=True).start()

    request(site, view)
    try:
        until(lambda: len(stored(site)) > 100)
    finally:
        stop.set()
    assert "not written" not in caplog.text


# ---- nothing grows


def test_threads_that_python_has_not_started_are_let_go(site: Service) -> None:
    """To ``threading`` such a thread, or a greenlet, is alive for ever."""
    before = len(late_writer._watched)
    ended = []

    def work() -> None:
        threading.current_thread()
        ended.append(site.convstore.sessions["s"]["n"])

    for _ in range(3):
        _thread.start_new_thread(work, ())
    until(lambda: len(ended) == 3)
    until(lambda: len(late_writer._watched) <= before)


def test_a_context_that_lives_for_hours_drops_what_nobody_uses(site: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_of_work, "_MOST_UNHELD", 10)
    with site.app.app_context():
        sessions = site.convstore.sessions
        for number in range(100):
            sessions[f"v{number}"] = {"n": number}
        unit = sessions._unit()
        held = sessions["v1"]
        sessions["v2"]["n"] = "changed"
        for number in range(100):
            assert sessions[f"v{number}"]
        assert len(unit._values) <= 15
        assert sessions["v1"] is held
    assert stored(site, "v2") == {"n": "changed"}


# ---- processes


def test_a_child_of_multiprocessing_writes_when_it_ends(valkey: Server) -> None:
    site = Service(valkey.url)
    with site.app.app_context():
        site.convstore.sessions["s"] = {"n": 0}

    def work() -> None:
        site.convstore.sessions["s"]["n"] += 1

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert stored(site) == {"n": 1}
