"""Changes outside of a request: in app contexts, threads, commands, and behind the response. None is lost."""

from __future__ import annotations

import ast
import copy
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import pytest
from flask import Flask, Response, copy_current_request_context, stream_with_context

from flask_convstore import ConversationStore, signals
from flask_convstore.domain.messages import Message
from flask_convstore.mapping.late_writer import late_writer

from ..processes import wait_for
from ..servers import Server
from ..service import Service, heard


@pytest.fixture
def site(service: Service) -> Service:
    with service.app.app_context():
        service.convstore.sessions["s"] = {"n": 0, "messages": []}
    return service


def stored(site: Service, session_id: str = "s") -> Any:
    with site.app.app_context():
        return site.convstore.get_session(session_id)


def in_thread(work: Callable[[], Any]) -> None:
    """Run *work* in a thread, and raise what it raised."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def until(condition: Callable[[], bool]) -> None:
    wait_for(condition, "the change was not written")


def request(site: Service, view: Callable[[], Any]) -> None:
    """Let a request be answered by *view*, once the app is running."""
    endpoint = f"/view{len(site.app.view_functions)}"
    site.app._got_first_request = False
    site.app.add_url_rule(endpoint, endpoint, view_func=lambda: view() or "ok")
    response = site.app.test_client().get(endpoint, buffered=True)
    assert (response.status_code, response.data) == (200, b"ok")


# ---- app contexts


def test_an_app_context_in_a_thread_is_a_unit_of_work(site: Service) -> None:
    """Flask's own advice for threads works: the changes are written when the context ends."""

    def work() -> None:
        with site.app.app_context():
            session = site.convstore.sessions["s"]
            session["messages"].append("from a thread")
            session["n"] += 1
            assert stored_alone(site)["n"] == 0

    def stored_alone(site: Service) -> Any:
        return site.convstore.get_session("s")

    in_thread(work)
    assert stored(site) == {"n": 1, "messages": ["from a thread"]}


def test_an_app_context_that_ends_by_an_exception_writes_nothing(site: Service) -> None:
    with pytest.raises(ZeroDivisionError), site.app.app_context():
        site.convstore.sessions["s"]["n"] = 1 / 0
    with pytest.raises(ZeroDivisionError), site.app.app_context():
        site.convstore.sessions["s"]["n"] = 5
        raise ZeroDivisionError
    assert stored(site)["n"] == 0


def test_an_error_at_the_end_of_an_app_context_is_raised(site: Service) -> None:
    with pytest.raises(Exception, match="JSON cannot hold a object"), site.app.app_context():
        site.convstore.sessions["s"]["n"] = object()
    assert stored(site)["n"] == 0


def test_an_app_context_reads_anew_and_keeps_its_own_changes(site: Service) -> None:
    """A long loop in one context sees what others wrote, in the objects that it holds."""
    with site.app.app_context():
        session = site.convstore.sessions["s"]
        session["mine"] = True
        in_thread(lambda: change_alone(site, approved=True))
        assert site.convstore.sessions["s"] is session
        assert (session["approved"], session["mine"]) == (True, True)
    assert stored(site) == {"n": 0, "messages": [], "approved": True, "mine": True}


def change_alone(site: Service, **fields: Any) -> None:
    with site.app.app_context():
        site.convstore.sessions["s"].update(fields)


@pytest.mark.parametrize("status", [0, 1])
def test_a_command_writes_when_it_succeeds(site: Service, status: int) -> None:
    """click ends each command by an exception, also one that went well."""

    @site.app.cli.command("change")
    def change() -> None:
        site.convstore.sessions["s"]["n"] = 7
        if status:
            raise click.exceptions.Exit(status)

    result = site.app.test_cli_runner().invoke(args=["change"])
    assert result.exit_code == status
    assert stored(site)["n"] == (0 if status else 7)


# ---- without any context


def test_a_thread_without_a_context_uses_the_only_app(site: Service) -> None:
    def work() -> None:
        sessions = site.convstore.sessions
        sessions["new"] = {"messages": []}
        sessions["new"]["messages"].append("hello")
        sessions["s"]["n"] += 1

    in_thread(work)
    until(lambda: stored(site, "new") == {"messages": ["hello"]})
    until(lambda: stored(site)["n"] == 1)


def test_a_thread_that_goes_on_is_written_meanwhile(site: Service) -> None:
    done = threading.Event()

    def work() -> None:
        site.convstore.sessions["s"]["messages"].append("early")
        assert done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: stored(site)["messages"] == ["early"])
    done.set()
    thread.join()


def test_a_pool_inside_a_request_works(site: Service) -> None:
    def view() -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: site.convstore.append("s", Message(f"m{number}"), data=None), range(8)))

    with site.app.app_context():
        site.convstore.sessions["s"] = {"history": []}
    request(site, view)
    assert sorted(stored(site)["history"]) == [f"m{number}" for number in range(8)]


def test_a_store_of_two_apps_asks_for_a_context() -> None:
    convstore = ConversationStore()
    for name in ("one", "two"):
        app = Flask(name)
        app.config["CONVSTORE_URL"] = "memory://"
        convstore.init_app(app)
    with pytest.raises(RuntimeError, match=r"with app\.app_context\(\):"):
        convstore.sessions["s"] = {}


def test_a_forked_child_writes_its_own_changes_and_not_its_parent_s(valkey: Server) -> None:
    """The parent's thread without a context has a change that is not yet written when it forks."""
    site = Service(valkey.url)
    with site.app.app_context():
        site.convstore.sessions["s"] = {"messages": []}
    sessions = site.convstore.sessions
    sessions["s"]["messages"].append("parent")
    pid = os.fork()
    if not pid:
        try:
            site.convstore.sessions["s"]["messages"].append("child")
            late_writer.write_all()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    until(lambda: sorted(stored(site)["messages"]) == ["child", "parent"])


# ---- behind the response


def test_a_list_that_a_thread_holds_may_grow_when_the_request_is_over(site: Service) -> None:
    answered = threading.Event()
    threads = []

    def view() -> None:
        messages = site.convstore.sessions["s"]["messages"]

        def later() -> None:
            assert answered.wait(10)
            messages.append("late")

        threads.append(threading.Thread(target=later))
        threads[0].start()

    request(site, view)
    answered.set()
    threads.pop().join()
    until(lambda: stored(site)["messages"] == ["late"])


def test_a_change_behind_the_response_that_cannot_be_written_is_told(
    site: Service, caplog: pytest.LogCaptureFixture
) -> None:
    held: list[Any] = []

    def view() -> None:
        held.append(site.convstore.sessions["s"])

    request(site, view)
    with heard(signals.changes_lost, site.app) as lost:
        held[0]["n"] = object()
        until(lambda: bool(lost))
    assert "its changes were not written" in caplog.text
    held.clear()


@pytest.mark.parametrize("how", ["teardown_request", "call_on_close", "copy_current_request_context", "a stream"])
def test_code_of_the_request_that_runs_behind_the_response(site: Service, how: str) -> None:
    answered = threading.Event()
    pool = ThreadPoolExecutor(1)
    works = []

    def change(*_: Any) -> None:
        site.convstore.sessions["s"]["messages"].append(how)

    def view() -> Any:
        site.convstore.sessions["s"]["n"] = 1
        if how == "call_on_close":
            response = Response("ok")
            response.call_on_close(change)
            return response
        if how == "copy_current_request_context":

            @copy_current_request_context
            def later() -> None:
                assert answered.wait(10)
                change()

            works.append(pool.submit(later))
        if how == "a stream":

            def parts() -> Iterator[str]:
                yield "o"
                change()
                yield "k"

            return Response(stream_with_context(parts()))
        return None

    if how == "teardown_request":
        site.app.teardown_request(change)
    request(site, view)
    answered.set()
    for work in works:
        work.result()
    pool.shutdown()
    until(lambda: stored(site) == {"n": 1, "messages": [how]})


# ---- waiting for others


def test_a_request_sees_what_others_wrote_when_it_asks(site: Service) -> None:
    """Own changes stay. ``flush()`` writes them, and the next read is a new one."""

    def view() -> None:
        session = site.convstore.sessions["s"]
        session["mine"] = 1
        in_thread(lambda: change_alone(site, theirs=1))
        assert "theirs" not in site.convstore.sessions["s"]
        assert site.convstore.sessions.refresh("s") is session
        assert (session["theirs"], session["mine"]) == (1, 1)
        in_thread(lambda: change_alone(site, again=2))
        site.convstore.sessions.flush()
        assert site.convstore.sessions["s"]["again"] == 2
        with pytest.raises(KeyError):
            site.convstore.sessions.refresh("none")

    request(site, view)
    assert stored(site) == {"n": 0, "messages": [], "mine": 1, "theirs": 1, "again": 2}


def test_waiting_for_others(site: Service) -> None:
    def view() -> None:
        sessions = site.convstore.sessions
        sessions["s"]["asked"] = True
        other = threading.Thread(target=lambda: answer(site))
        other.start()
        assert sessions.wait("s", until=lambda session: session.get("approved"), timeout=10)["approved"] == "yes"
        other.join()
        with pytest.raises(TimeoutError):
            sessions.wait("s", until=lambda session: session.get("never"), timeout=0.01)

    request(site, view)
    assert stored(site)["approved"] == "yes"


def answer(site: Service) -> None:
    with site.app.app_context():
        session = site.convstore.sessions.wait("s", until=lambda session: session.get("asked"), timeout=10)
        session["approved"] = "yes"


BOTH: dict[str, tuple[Any, Any, Any, Any]] = {
    "a list": ({"f": [1]}, lambda s: s["f"].append(2), lambda s: s["f"].append(3), [1, 3, 2]),
    "a dict": ({"f": {}}, lambda s: s["f"].update(a=1), lambda s: s["f"].update(b=2), {"b": 2, "a": 1}),
    "a counter": ({"f": 1}, lambda s: s.update(f=2), lambda s: s.update(f=2), 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("conflict", ["merge", "raise"])
def test_a_refresh_shows_a_field_that_both_have_changed_as_a_write_gives_it(url: str, kind: str, conflict: str) -> None:
    """On a dict both changes are seen at once. Where each such field is an error, the own change stays until the write."""
    site = Service(url, CONFLICT=conflict)
    content, mine, theirs, merged = BOTH[kind]
    on_dict = copy.deepcopy(content)
    mine(on_dict), theirs(on_dict)
    with site.app.app_context():
        site.convstore.sessions["s"] = content

    def view() -> str:
        session = site.convstore.sessions["s"]
        held = session["f"]
        mine(session)
        in_thread(lambda: change_in_context(site, theirs))
        refreshed = site.convstore.sessions.refresh("s")
        assert refreshed is session
        if kind != "a counter":
            assert refreshed["f"] is held
            assert (sorted(map(str, held)) == sorted(map(str, on_dict["f"]))) is (conflict == "merge")
        return str(refreshed["f"])

    site.app.add_url_rule("/view", "view", view)
    response = site.app.test_client().get("/view")
    if conflict == "raise":
        assert response.status_code == 409
    else:
        assert ast.literal_eval(response.text) == merged
        assert stored(site)["f"] == merged


def change_in_context(site: Service, change: Callable[[Any], Any]) -> None:
    with site.app.app_context():
        change(site.convstore.sessions["s"])


def test_a_refresh_leaves_a_collision_to_the_write_which_tells_it(site: Service) -> None:
    def view() -> None:
        session = site.convstore.sessions["s"]
        session["color"] = "mine"
        in_thread(lambda: change_alone(site, color="theirs"))
        assert site.convstore.sessions.refresh("s")["color"] == "mine"

    with heard(signals.changes_overwritten, site.app) as told:
        request(site, view)
    assert [facts["fields"] for facts in told] == [("color",)]
    assert stored(site)["color"] == "mine"
