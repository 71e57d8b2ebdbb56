"""Lists and dicts deep inside a session that somebody holds: their changes are written, whatever others write meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ..service import Service
from .test_outside_requests import in_thread, request, site, stored, until

__all__ = ["site"]

Take = Callable[[Any], Any]
"""Function that takes a part out of a session."""

TAGS = {"c": "1", "tags": ["t"]}

PARTS: dict[str, tuple[Any, Take]] = {
    "a list": ({"messages": ["1"]}, lambda s: s["messages"]),
    "a history": ({"history": ["1"]}, lambda s: s["history"]),
    "three levels": ({"u": {"c": {"m": ["1"]}}}, lambda s: s["u"]["c"]["m"]),
    "through a list": ({"u": [{"d": {"m": ["1"]}}]}, lambda s: s["u"][0]["d"]["m"]),
    "of a record": (["model", ["1"], 1], lambda s: s[1]),
    "of a message": ({"messages": [TAGS, TAGS]}, lambda s: s["messages"][0]["tags"]),
    "of a message of the history": ({"history": [TAGS]}, lambda s: s["history"][0]["tags"]),
    "of an old message of many": ({"m": [TAGS] * 150}, lambda s: s["m"][7]["tags"]),
}


def put(site: Service, content: Any) -> None:
    with site.app.app_context():
        site.convstore.sessions["s"] = content


def elsewhere(site: Service, change: Callable[[Any], Any]) -> None:
    def work() -> None:
        with site.app.app_context():
            change(site.convstore.sessions["s"])

    in_thread(work)


@pytest.mark.parametrize("how", ["flush", "refresh", "an app context"])
@pytest.mark.parametrize("part", PARTS)
def test_a_held_part_stays_the_same_object_when_others_write(site: Service, part: str, how: str) -> None:
    content, take = PARTS[part]
    put(site, content)
    sessions = site.convstore.sessions

    def view() -> None:
        held = take(sessions["s"])
        if how == "flush":
            held.append("mine")
            sessions.flush()
        elsewhere(site, lambda session: take(session).append("theirs"))
        if how == "refresh":
            sessions.refresh("s")
        assert take(sessions["s"]) is held
        held.append("later")

    if how == "an app context":
        with site.app.app_context():
            view()
    else:
        request(site, view)
    added = take(stored(site))[1:]
    assert added == (["mine", "theirs", "later"] if how == "flush" else ["theirs", "later"])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_a_thread_holds_may_change_when_the_request_is_over(site: Service, part: str) -> None:
    content, take = PARTS[part]
    put(site, content)
    answered = threading.Event()
    threads = []

    def view() -> None:
        held = take(site.convstore.sessions["s"])

        def later() -> None:
            assert answered.wait(10)
            held.append("late")

        threads.append(threading.Thread(target=later))
        threads[0].start()

    request(site, view)
    answered.set()
    threads.pop().join()
    until(lambda: take(stored(site))[1:] == ["late"])


def test_a_message_that_a_thread_fills_later(site: Service) -> None:
    """The reply is a placeholder in the list until a thread has it."""
    answered = threading.Event()
    threads = []

    def fill(reply: dict[str, str]) -> None:
        assert answered.wait(10)
        reply["content"] = "done"

    def view() -> None:
        reply = {"role": "assistant", "content": "…"}
        site.convstore.sessions["s"]["messages"] += [{"role": "user", "content": "hi"}, reply]
        threads.append(threading.Thread(target=fill, args=(reply,)))
        threads[0].start()

    request(site, view)
    answered.set()
    threads.pop().join()
    until(lambda: stored(site)["messages"][-1]["content"] == "done")


def test_a_part_that_outlives_the_thread_which_has_loaded_it(site: Service) -> None:
    put(site, {"u": [{"d": {"m": []}}]})
    held: list[Any] = []
    in_thread(lambda: held.append(site.convstore.sessions["s"]["u"][0]["d"]["m"]))
    held.pop().append("late")
    until(lambda: stored(site)["u"][0]["d"]["m"] == ["late"])
