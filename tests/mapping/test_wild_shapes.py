"""Apps with difficult shapes and habits keep on convstore whatever they keep on a dict, with two clients at once too.

The apps are in ``wild/shapes/``. Each is run as written, and again with its dict on convstore: its requests one after
another, then two requests that overlap. Both of them have loaded the conversation before either goes on. They go on in both
orders, and what is kept in the end is compared, whatever its order. See ``wild/shapes/__init__.py``.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ..processes import wait_for
from ..servers import Server
from ..telemetry.test_signals import heard
from ..wild.shapes import IMPORT, IN_ONE_PROCESS, NAMES, TEXTS, Meeting, RemoteMeeting, module_of, moved, source_of
from .test_wild import Answer, Workers, answer_of, serving

Call = Callable[[str, str, Any], Answer]
"""Function that sends a request to an app: its method, path and body."""

COLLISIONS = {
    "characters": {"elf.gold"},
    "dataclass_users": {"conversations.tea.words.reply", "conversations.tea.words.to"},
    "flash_cards": {"best"},
    "usage_counters": {"usage.by_model.small"},
}
"""Places that collide. Where two requests count from nothing, 1 and 1 may be a sum, or the same value set twice."""

ORDERS = list(itertools.permutations(TEXTS))


def calling(module: ModuleType) -> Call:
    """Send requests to an app in this process."""

    def call(method: str, path: str, body: Any) -> Answer:
        if method == "AWAIT":
            return awaited(call, path, body)
        if method == "EMIT":
            browser = module.socketio.test_client(module.app)
            acknowledged = browser.emit(path, body, callback=True)
            return Answer(200, [acknowledged, browser.get_received()])
        if method == "RUN":
            result = module.app.test_cli_runner().invoke(args=path.split())
            return Answer(result.exit_code, result.output)
        with module.app.test_client().open(path, method=method, json=body) as response:
            return answer_of(response.status_code, response.content_type, response.get_data())

    return call


def awaited(call: Call, path: str, status: int) -> Answer:
    """Repeat a GET until its answer has a status."""

    def answer() -> Answer | None:
        found = call("GET", path, None)
        return found if found.status == status else None

    found: Answer = wait_for(answer, f"{path} does not become {status}")
    return found


def differences(module: ModuleType, expected: list[Answer], found: list[Answer]) -> list[str]:
    """Describe each request with another answer."""
    return [
        f"request {number} {request}: on a dict {was}, on convstore {now}"
        for number, (request, was, now) in enumerate(zip(module.REQUESTS, expected, found, strict=True))
        if was != now
    ]


# ---- the apps


def test_there_are_many() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_three_lines_move_an_app(name: str) -> None:
    source = source_of(name)
    compared = list(difflib.ndiff(source.splitlines(), moved(source).splitlines()))
    removed, added = ([line[2:] for line in compared if line[0] == sign] for sign in "-+")
    assert removed == [line for line in source.splitlines() if "# convstore: " in line]
    assert added[0] == IMPORT
    assert len(added) == len(removed) + 1
    assert 2 <= len(added) <= 3
    assert sum("convstore" in line for line in source.splitlines()) == len(removed)


# ---- one after another


@pytest.mark.parametrize("name", NAMES)
def test_the_same_answers(name: str, url: str) -> None:
    on_dict, moved_app = module_of(name), module_of(name, url)
    expected, found = ([calling(app)(*request) for request in app.REQUESTS] for app in (on_dict, moved_app))
    assert len(expected) >= 8
    assert differences(on_dict, expected, found) == []


# ---- two clients at once


def together(app: ModuleType, call: Call, meeting: Meeting | RemoteMeeting, order: tuple[str, ...]) -> list[Answer]:
    """Let two requests overlap, and show what was kept."""
    is_late = hasattr(app, "IS_LATE")
    running: dict[str, Future[Answer]] = {}

    def is_there(text: str) -> bool:
        return meeting.has_arrived(text) or (running[text].done() and not is_late)

    def is_kept(text: str) -> bool:
        return f"reply to {text}" in str([call(*request) for request in app.AFTER])

    with ThreadPoolExecutor() as pool:
        is_followed = hasattr(app, "FOLLOWER") and isinstance(meeting, Meeting)  # two workers have their hands full
        followed = pool.submit(call, *app.FOLLOWER) if is_followed else None
        for text, request in zip(TEXTS, app.TOGETHER, strict=True):
            running[text] = pool.submit(call, *request)
            wait_for(partial(is_there, text), f"{text} does not reach the gate")
        for text in order:
            meeting.let_go(text)
            assert running[text].result().status < 300, (app.__name__, running[text].result())
            if is_late:
                wait_for(partial(is_kept, text), f"the reply to {text} is lost")
        answers = [followed.result()] if followed else []
    return answers + [call(*request) for request in app.AFTER]


def kept(answers: list[Answer]) -> Counter[tuple[str, str]]:
    """Count the parts of answers by their paths, whatever their order in lists."""
    return Counter(part for answer in answers for part in _parts(answer.body, ""))


def _parts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _parts(part, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for part in value:
            yield from _parts(part, f"{path}[]")
    elif isinstance(value, str):
        yield from ((path, line) for line in value.splitlines())
    else:
        yield path, json.dumps(round(value, 9) if isinstance(value, float) else value)


def lost(on_dict: Counter[tuple[str, str]], on_convstore: Counter[tuple[str, str]], told: Collection[str]) -> list[Any]:
    """List the parts that a dict keeps and convstore does not, unless a signal has told of the place."""
    return [part for part in on_dict - on_convstore if not any(path in part[0] for path in told)]


def invented(on_dict: Counter[tuple[str, str]], on_convstore: Counter[tuple[str, str]]) -> list[Any]:
    """List the parts of the two requests that convstore keeps more often than a dict."""
    parts = [part for part in on_convstore if any(text in part[1] for text in TEXTS)]
    return [part for part in parts if on_convstore[part] > max(1, on_dict[part])]


@contextlib.contextmanager
def told_places(app: ModuleType) -> Iterator[list[str]]:
    """Note the places that signals tell as overwritten. Nothing may be told as lost."""
    places: list[str] = []
    if "convstore" not in app.app.extensions:
        yield places
        return
    store = app.app.extensions["convstore"]["convstore"].convstore
    with heard(SimpleNamespace(app=app.app, convstore=store)) as told:  # type: ignore[arg-type]
        yield places
    assert "changes-lost" not in [name for name, _ in told]
    places += [place for name, facts in told if name == "changes-overwritten" for place in facts["fields"]]


def is_late(name: str) -> bool:
    return "IS_LATE" in source_of(name)


def starts() -> list[Any]:
    """List the apps, with conversations that were begun before, and that the two requests begin."""
    return [
        pytest.param(name, begins, id=f"{name}-{begins}", marks=[pytest.mark.slow] if is_late(name) else [])
        for name in NAMES
        for begins in ("begun", "new")
        if begins == "begun" or "ONLY_BEGUN" not in source_of(name)
    ]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize(("name", "begins"), starts())
def test_two_clients_at_once(name: str, begins: str, order: tuple[str, ...], url: str) -> None:
    found: list[Counter[tuple[str, str]]] = []
    for place in (None, url):
        meeting = Meeting()
        app = module_of(name, place, meeting)
        call = calling(app)
        with told_places(app) as places:
            for request in app.BEFORE if begins == "begun" else ():
                call(*request)
            found.append(kept(together(app, call, meeting, order)))
    on_dict, on_convstore = found
    assert lost(on_dict, on_convstore, places) == []
    assert invented(on_dict, on_convstore) == []
    assert set(places) <= COLLISIONS.get(name, set())


# ---- from two workers


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
@pytest.mark.parametrize("name", sorted(IN_ONE_PROCESS))
def test_events_and_commands_of_two_workers_at_once(name: str, order: tuple[str, ...], valkey: Server) -> None:
    """Two apps of one store have nothing else in common, as two processes. One of them does what has the text ``two``."""
    meeting = Meeting()
    on_dict = module_of(name, None, meeting)
    for request in on_dict.BEFORE:
        calling(on_dict)(*request)
    expected = kept(together(on_dict, calling(on_dict), meeting, order))
    meeting = Meeting()
    one, other = (module_of(name, valkey.url, meeting) for _ in range(2))

    def call(method: str, path: str, body: Any) -> Answer:
        return calling(other if "two" in f"{path} {body}" else one)(method, path, body)

    with told_places(one) as places, told_places(other) as other_places:
        for request in one.BEFORE:
            call(*request)
        found = kept(together(one, call, meeting, order))
    assert lost(expected, found, []) == []
    assert invented(expected, found) == []
    assert places + other_places == []


def test_two_workers_and_a_restart(valkey: Server) -> None:
    """The same answers, and the same two clients at once, each of them served by another process."""
    names = [name for name in NAMES if name not in IN_ONE_PROCESS]
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    shown: dict[str, list[Answer]] = {}
    for half in range(2):
        with serving(valkey, "tests.wild.shapes:create_app()") as workers:
            for name in names:
                requests = module_of(name).REQUESTS
                middle = len(requests) // 2
                call = remote(workers, name)
                answers[name] += [call(*request) for request in (requests[middle:] if half else requests[:middle])]
                if half:
                    shown[name] = together_from_two_workers(valkey, name, call)
        assert len(workers.seen) == 2
    for name in names:
        on_dict = module_of(name)
        assert differences(on_dict, [calling(on_dict)(*request) for request in on_dict.REQUESTS], answers[name]) == []
        meeting = Meeting()
        fresh = module_of(name, gate=meeting)
        call = calling(fresh)
        played = [call(*request) for request in (*fresh.REQUESTS, *fresh.BEFORE)]
        assert len(played) > 8
        assert lost(kept(together(fresh, call, meeting, TEXTS)[-len(fresh.AFTER) :]), kept(shown[name]), []) == [], name


def remote(workers: Workers, name: str) -> Call:
    """Send requests to an app behind gunicorn."""

    def call(method: str, path: str, body: Any) -> Answer:
        if method == "AWAIT":
            return awaited(call, path, body)
        return workers.call(method, f"/{name}{path}", body)

    return call


def together_from_two_workers(valkey: Server, name: str, call: Call) -> list[Answer]:
    app = module_of(name)
    for request in app.BEFORE:
        call(*request)
    return together(app, call, RemoteMeeting(valkey.url, name), TEXTS)
