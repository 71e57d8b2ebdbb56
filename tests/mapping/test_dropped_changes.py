"""Changes that a dict keeps and the mapping drops: logged with the line that has loaded the value, and signalled."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import abort

from flask_convstore import signals
from flask_convstore.app import current
from flask_convstore.errors import ChangesDropped, StoreUnavailable
from flask_convstore.mapping import unit_of_work

from ..servers import Server
from ..service import Service, heard
from .test_outside_requests import site, stored, until

__all__ = ["site"]


@pytest.fixture(autouse=True)
def _nothing_is_told_yet() -> None:
    unit_of_work._told.clear()


@pytest.fixture
def on_dict() -> dict[str, Any]:
    return {"s": {"n": 0, "messages": []}}


@pytest.fixture
def lost(site: Service) -> Iterator[list[Any]]:
    with heard(signals.changes_lost, site.app) as facts:
        yield facts


def ask(site: Service, view: Callable[[], Any]) -> int:
    """Let a request be answered by *view*. Returns the status."""
    endpoint = f"/view{len(site.app.view_functions)}"
    site.app._got_first_request = False
    site.app.add_url_rule(endpoint, endpoint, view_func=lambda: view() or "ok")
    return site.app.test_client().get(endpoint).status_code


def refused(_: Any) -> Any:
    raise StoreUnavailable("the store is away", written=False)


def is_told_with_this_file(lost: list[Any], caplog: pytest.LogCaptureFixture) -> bool:
    (error,) = (facts["error"] for facts in lost)
    (logged,) = (record.getMessage() for record in caplog.records if "were dropped" in record.getMessage())
    return isinstance(error, ChangesDropped) and error.session_ids == ("s",) and f"{__file__}:" in logged


@pytest.mark.parametrize("end", ["raises", "aborts", "is not written"])
def test_a_thread_that_goes_on_when_its_request_has_failed(
    site: Service,
    lost: list[Any],
    on_dict: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    answered = threading.Event()
    threads = []

    def view(sessions: Any = site.convstore.sessions) -> None:
        messages = sessions["s"]["messages"]

        def later() -> None:
            assert answered.wait(10)
            messages.append("late")

        threads.append(threading.Thread(target=later))
        threads[-1].start()
        if end == "is not written":
            sessions["s"]["n"] = 1
        elif end == "aborts":
            abort(403)
        else:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        if end == "is not written":
            patch.setattr(site.app.extensions["convstore"]["convstore"].backend.store, "apply", refused)
        assert ask(site, view) == {"raises": 500, "aborts": 403, "is not written": 503}[end]
    with contextlib.suppress(Exception):
        view(on_dict)
    assert not lost
    answered.set()
    for thread in threads:
        thread.join()
    threads.clear()
    assert on_dict["s"]["messages"] == ["late"]
    until(lambda: bool(lost))
    assert is_told_with_this_file(lost, caplog)
    assert stored(site) == {"n": 0, "messages": []}


@pytest.mark.parametrize("where", ["an app context", "a scope", "a request"])
def test_changes_of_code_that_raises(
    site: Service, lost: list[Any], on_dict: dict[str, Any], caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """On a dict they stay. Twice, since the log has each line once, and the signal comes each time."""

    def work(sessions: Any = site.convstore.sessions) -> None:
        sessions["s"]["messages"].append("dropped")
        raise ZeroDivisionError

    def in_scope() -> None:
        with site.convstore.sessions.scope():
            work()

    for _ in range(2):
        if where == "a request":
            assert ask(site, work) == 500
        else:
            with pytest.raises(ZeroDivisionError), site.app.app_context():
                in_scope() if where == "a scope" else work()
    with pytest.raises(ZeroDivisionError):
        work(on_dict)
    assert on_dict["s"]["messages"] == ["dropped"]
    assert len(lost) == 2
    assert is_told_with_this_file(lost[:1], caplog)
    assert stored(site) == {"n": 0, "messages": []}


def test_a_default_that_nobody_has_changed_is_no_loss(site: Service, lost: list[Any]) -> None:
    def view() -> None:
        site.convstore.sessions.setdefault("new", {"messages": []})
        abort(400)

    assert ask(site, view) == 400
    assert not lost


def test_what_is_changed_behind_its_scope_is_written(site: Service, on_dict: dict[str, Any]) -> None:
    with site.app.app_context():
        with site.convstore.sessions.scope() as sessions:
            session = sessions["s"]
        session["n"] = on_dict["s"]["n"] = 1
        until(lambda: site.convstore.get_session("s") == on_dict["s"])


def test_changes_in_a_context_that_stays_open_are_written_meanwhile(
    site: Service, monkeypatch: pytest.MonkeyPatch, on_dict: dict[str, Any]
) -> None:
    """A worker's loop in one app context never ends, and holds its objects."""
    monkeypatch.setattr(current, "LONG_SECONDS", 0.0)
    done = threading.Event()

    def work(sessions: Any, is_stored: Callable[[], bool]) -> None:
        session = sessions["s"]
        for number in range(3):
            session["messages"].append(number)
            session["n"] += 1
            until(is_stored)

    def in_context() -> None:
        with site.app.app_context():
            work(site.convstore.sessions, lambda: stored(site)["n"] == site.convstore.sessions["s"]["n"])
            assert done.wait(10)

    work(on_dict, lambda: True)
    thread = threading.Thread(target=in_context)
    thread.start()
    until(lambda: stored(site) == on_dict["s"])
    done.set()
    thread.join()
    assert stored(site) == on_dict["s"]


@pytest.mark.parametrize("where", ["a request", "an app context", "a thread"])
@pytest.mark.parametrize("how", ["reads anew", "holds"])
def test_a_forked_child(valkey: Server, where: str, how: str) -> None:
    """A value that it reads anew is written. A change in an object of its parent is told."""
    site = Service(valkey.url)
    sessions = site.convstore.sessions
    with site.app.app_context():
        sessions["s"] = {"messages": []}
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()

    def child(session: Any) -> None:
        def tell(_: Any, **facts: Any) -> None:
            told.put(str(facts["error"]))

        signals.changes_lost.connect(tell, site.app, weak=False)
        (sessions["s"] if how == "reads anew" else session)["messages"].append("child")

    def parent() -> None:
        session = sessions["s"]
        session["messages"].append("parent")
        process = fork.Process(target=child, args=[session])
        process.start()
        process.join()
        assert process.exitcode == 0

    if where == "a request":
        assert ask(site, parent) == 200
    elif where == "an app context":
        with site.app.app_context():
            parent()
    else:
        thread = threading.Thread(target=parent)
        thread.start()
        thread.join()
    expected = ["child", "parent"] if how == "reads anew" else ["parent"]
    until(lambda: sorted(stored(site)["messages"]) == expected)
    assert told.empty() is (how == "reads anew")
    if how == "holds":
        assert "read the value anew in the child" in told.get()


def test_a_held_value_that_an_outage_has_kept_is_not_told_as_lost(
    site: Service, lost: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change behind the response waits for the store, held by somebody or not."""
    store: Any = site.app.extensions["convstore"]["convstore"].backend.store
    apply, tries = store.apply, []

    def refused(command: Any) -> Any:
        tries.append(command)
        if len(tries) < 3:
            raise StoreUnavailable("the store is away", written=False)
        return apply(command)

    def change(_: Any) -> None:
        monkeypatch.setattr(store, "apply", refused)
        site.convstore.sessions["s"]["n"] += 1

    site.app.teardown_request(change)
    assert ask(site, lambda: None) == 200
    until(lambda: stored(site)["n"] == 1)
    assert not lost
