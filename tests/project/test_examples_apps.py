"""The example apps through HTTP: as their READMEs say, as they were with a dict, and what a dict could not do."""

from __future__ import annotations

import difflib
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from examples.channels import app as channels
from examples.develope import app as develope
from examples.onboarding import app as onboarding
from examples.orchestrator import app as orchestrator
from flask_convstore import ConversationStore

from ..servers import Server, free_port

ROOT = Path(__file__).parents[2]
APPS = {"channels": channels, "develope": develope, "onboarding": onboarding, "orchestrator": orchestrator}
HOUR = 3_600_000
DAY = 24 * HOUR

Request = tuple[str, str, Any]
"""Method, path, JSON. ``<id>`` stands for the id of the last answer."""


@pytest.fixture
def _store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The apps find it as a user's do."""
    monkeypatch.setenv("CONVSTORE_URL", url)


@pytest.fixture
def _valkey(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_URL", valkey.url)


every_store = pytest.mark.usefixtures("_store")
on_a_server = pytest.mark.usefixtures("_valkey")


# Made once: a Flask that is made compiles its routes, which Python 3.11 does not bear in two threads at a time
# ("AST constructor recursion depth mismatch").
_JSON = Flask("json").json


class Caller:
    """Calls an app, and remembers the id that it was answered last."""

    def __init__(self, app: Flask) -> None:
        self._client: FlaskClient = app.test_client()
        self.id = "none-yet"

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON, in which ``<id>`` stands for the id."""
        sent = None if body is None else app_json(body).replace("<id>", self.id)
        path = path.replace("<id>", self.id)
        response = self._client.open(path, method=method, data=sent, content_type="application/json" if sent else None)
        assert response.is_json, response.text
        answer: Any = response.json
        self.id = answer.get("session_id") or answer.get("task_id") or self.id
        return response.status_code, answer if response.status_code >= 400 else named(answer, self.id)

    def play(self, requests: list[Request]) -> list[tuple[int, Any]]:
        """The answers. An error counts by its status only, since texts and shapes differ between the versions of an app."""
        answers = [self(*request) for request in requests]
        return [(status, answer if status < 400 else None) for status, answer in answers]


def app_json(body: Any) -> str:
    return _JSON.dumps(body)


def named(answer: Any, session_id: str) -> Any:
    return Flask("json").json.loads(app_json(answer).replace(session_id, "<id>"))


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Results of these calls, in threads of their own."""
    given: list[Any] = [None] * len(calls)

    def work(number: int) -> None:
        given[number] = calls[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


# ---- the READMEs


def source(name: str) -> str:
    return (ROOT / "examples" / name / "app.py").read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    readme = (ROOT / "examples" / name / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", readme, re.DOTALL)


def source_before(name: str) -> str:
    """The version that kept everything in memory: app.py without what the README's diff adds."""
    [diff] = blocks(name, "diff")
    before = source(name)
    for hunk in diff.split("@@\n"):
        lines = [line or " " for line in hunk.splitlines()]
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] != "-")
        assert before.count(new) == 1, f"not in app.py, or not once:\n{new}"
        before = before.replace(new, "".join(f"{line[1:]}\n" for line in lines if line[0] != "+"))
    return before


def app_of(code: str) -> Flask:
    """The app that a module with this code makes."""
    names: dict[str, Any] = {"__name__": __name__}
    exec(code, names)
    app = names["create_app"]()
    assert isinstance(app, Flask)
    return app


@pytest.mark.parametrize("name", APPS)
def test_what_the_diff_takes_away_is_all_of_convstore(name: str) -> None:
    """The diff in the README is whole, and each '+' line stands in app.py."""
    before = source_before(name)
    assert "convstore." not in before
    assert "flask_convstore" not in before


@pytest.mark.parametrize("name", APPS)
def test_the_commands_of_the_readme_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [commands] = blocks(name, "sh")
    run, *curls = [shlex.split(line, comments=True) for line in commands.splitlines() if line]
    assert run == ["CONVSTORE_URL=memory://", "flask", "--app", f"examples.{name}.app", "run"]
    monkeypatch.setenv("CONVSTORE_URL", "memory://")
    call = Caller(APPS[name].create_app())
    for curl in curls:
        assert curl.pop(0) == "curl"
        options = dict(zip(curl[:-1:2], curl[1::2], strict=True))
        body = options.get("--json", "null").replace("2f1c…", "<id>")
        method = options.get("-X", "POST" if "--json" in options else "GET")
        path = curl[-1].removeprefix("localhost:5000").replace("2f1c…", "<id>")
        status, answer = call(method, path, Flask("json").json.loads(body))
        assert status < 300, answer


@pytest.mark.slow
@pytest.mark.parametrize("name", APPS)
def test_flask_finds_the_app_in_a_checkout(name: str) -> None:
    environment = {**os.environ, "CONVSTORE_URL": "memory://"}
    command = [sys.executable, "-m", "flask", "--app", f"examples.{name}.app", "routes"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "POST" in done.stdout


# ---- while the store is away


@pytest.fixture
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_URL", f"redis://127.0.0.1:{free_port()}/0")


while_away = pytest.mark.usefixtures("_no_server")


@while_away
@pytest.mark.parametrize(("name", "path"), [("develope", "/session/x"), ("orchestrator", "/tasks/x")])
def test_a_store_that_is_away_is_a_503_and_no_empty_conversation(name: str, path: str) -> None:
    status, answer = Caller(APPS[name].create_app())("GET", path)
    assert (status, answer["type"]) == (503, "urn:convstore:unavailable")


@while_away
def test_develope_takes_new_sessions_while_the_store_is_away() -> None:
    answers = Caller(develope.create_app()).play([*ANALYZED, ("GET", "/session/<id>", None)])
    assert [status for status, _ in answers] == [201, *[200] * 5]


@while_away
def test_the_bot_goes_on_while_the_store_is_away_and_says_that_it_cannot_look_back() -> None:
    app = channels.create_app()
    replies = [talk(app, text)[1]["reply"] for text in ("It rains", "Who am I?", "My name is Ada", "Who am I?")]
    assert [reply.removesuffix(f" {channels.IN_PART}") for reply in replies] == [
        "Noted.",
        "You have not told me your name.",
        "Nice to meet you, Ada.",
        "You are Ada.",
    ]
    assert all(reply.endswith(channels.IN_PART) for reply in replies)


@while_away
def test_onboarding_asks_on_while_the_store_is_away_and_says_that_it_cannot_look_back() -> None:
    call = Caller(onboarding.create_app())
    for method, path, body in (("GET", "/onboarding/bob", None), ("POST", "/onboarding/eve", {"answer": "too early"})):
        status, answer = call(method, path, body)
        assert (status, answer["question"]) == (200, onboarding.QUESTIONS["name"])
        assert answer["note"] == onboarding.CANNOT_LOOK_BACK
    answers = call.play(TOLD[2:11])
    assert answers[-1][1]["profile"]["goals"] == ["a program", "an engine"]


@while_away
def test_the_orchestrator_works_on_new_tasks_while_the_store_is_away() -> None:
    call = Caller(orchestrator.create_app())
    assert call("POST", "/tasks/x/step") == (200, {"plan": [], "results": {}, "complete": False, "partial": True})
    answers = call.play(WORKED[3:9])
    assert [status for status, _ in answers] == [201, *[200] * 5]
    assert answers[-1][1]["complete"] is True


# ---- develope

DESCRIBED: list[Request] = [
    ("POST", "/start", {"description": "a toy car for children"}),
    ("POST", "/continue", {"session_id": "<id>", "message": "painted wood"}),
    ("POST", "/continue", {"session_id": "<id>", "message": "children from 3 years"}),
    ("POST", "/continue", {"session_id": "<id>", "message": "Europe 🎉"}),
]
ANALYZED: list[Request] = [*DESCRIBED, ("POST", "/analyze", {"session_id": "<id>"})]


def test_develope_changed_in_three_lines_at_most() -> None:
    """One import, the mapping, and the handler that makes an error a 503. The README has the whole version before."""
    [old] = blocks("develope", "python")
    differing = [line for line in difflib.ndiff(old.splitlines(), source("develope").splitlines()) if line[0] in "+-"]
    assert [line[0] for line in differing].count("+") <= 3
    assert [line.strip() for line in differing if line[0] == "-"] == ["-     conversation_sessions = {}"]
    assert old == source_before("develope")


@every_store
def test_develope_answers_as_it_did_with_a_dict() -> None:
    requests: list[Request] = [
        ("POST", "/continue", {"session_id": "none", "message": "x"}),
        ("POST", "/continue", {"message": "x"}),
        ("POST", "/start", {}),
        ("POST", "/continue", {"session_id": "<id>"}),
        ("POST", "/continue", {"session_id": "<id>", "message": " "}),
        ("POST", "/analyze", {"session_id": "<id>"}),
        ("GET", "/session/<id>", None),
        *ANALYZED[:1],
        ("POST", "/ask", {"session_id": "<id>", "question": "which?"}),
        *ANALYZED[1:],
        ("POST", "/continue", {"session_id": "<id>", "message": "more"}),
        ("POST", "/ask", {"session_id": "<id>", "question": "Which norms apply?"}),
        ("POST", "/ask", {"session_id": "<id>", "question": "Why EN 71-3?"}),
        ("POST", "/ask", {"session_id": "<id>", "question": 7}),
        ("GET", "/session/<id>", None),
        ("POST", "/analyze", {"session_id": "<id>"}),
        ("DELETE", "/session/<id>", None),
        ("DELETE", "/session/<id>", None),
        ("GET", "/session/<id>", None),
        ("POST", "/ask", {"session_id": "x" * 300, "question": "?"}),
        ("GET", "/nowhere", None),
    ]
    [old] = blocks("develope", "python")
    answers = Caller(develope.create_app()).play(requests)
    assert answers == Caller(app_of(old)).play(requests)
    statuses = [status for status, _ in answers]
    assert statuses[:9] == [404, 400, 201, 400, 400, 409, 200, 201, 409]
    assert statuses[9:] == [200, 200, 200, 200, 409, 200, 200, 400, 200, 200, 200, 404, 404, 404, 404]
    session = answers[17][1]
    assert session["complete"] is True
    assert {result["norm"] for result in session["matched_norms"]} >= {"EN 71-1", "EN 71-3"}
    assert len(session["all_norm_results"]) > len(session["matched_norms"])
    assert "EN 71-3" in session["history"][-1]["content"]
    assert session["product_description"]["market"] == "Europe 🎉"


@on_a_server
def test_develope_lives_an_hour_then_a_day_and_resumes(valkey: Server) -> None:
    call = Caller(develope.create_app())
    with valkey.moment() as moment:
        call.play(DESCRIBED)
    keys = [f"chat:session:{{{call.id}}}", f"chat:session:{{{call.id}}}:history"]
    assert all(valkey.end_of(key) - HOUR in moment for key in keys)
    resumed = Caller(develope.create_app())
    resumed.id = call.id
    with valkey.moment() as moment:
        assert resumed("POST", "/analyze", {"session_id": "<id>"})[0] == 200
    assert all(valkey.end_of(key) - DAY in moment for key in keys)
    status, answer = Caller(develope.create_app())("POST", "/ask", {"session_id": call.id, "question": "which?"})
    assert (status, "EN 71-1" in answer["answer"]) == (200, True)


# ---- onboarding

TOLD: list[Request] = [
    ("GET", "/onboarding/ada", None),
    ("POST", "/onboarding/ada", {"answer": "too early"}),
    ("POST", "/onboarding", {}),
    ("POST", "/onboarding", {"user_id": "ada"}),
    ("POST", "/onboarding/ada", {"answer": ""}),
    ("POST", "/onboarding/ada", {"answer": "Ada"}),
    ("POST", "/onboarding", {"user_id": "ada"}),
    ("POST", "/onboarding", {"user_id": "bob"}),
    ("POST", "/onboarding/ada", {"answer": "mathematician"}),
    ("GET", "/onboarding/ada", None),
    ("POST", "/onboarding/ada", {"answer": "a program, an engine"}),
    ("GET", "/onboarding/ada", None),
    ("GET", "/onboarding/bob", None),
]


@every_store
def test_onboarding_asks_answers_with_the_profile_and_forgets() -> None:
    answers = Caller(onboarding.create_app()).play(TOLD)
    assert answers == Caller(app_of(source_before("onboarding"))).play(TOLD)
    assert [status for status, _ in answers] == [404, 404, 400, 200, 400, 200, 200, 200, 200, 200, 200, 404, 200]
    assert answers[5][1]["question"] == answers[6][1]["question"] == "What is your role?"
    profile = {"name": "Ada", "role": "mathematician", "goals": ["a program", "an engine"]}
    assert answers[10][1] == {"complete": True, "question": None, "profile": profile}


@on_a_server
def test_onboarding_resumes_after_a_restart(valkey: Server) -> None:
    call = Caller(onboarding.create_app())
    call("POST", "/onboarding", {"user_id": "ada"})
    call("POST", "/onboarding/ada", {"answer": "Ada"})
    restarted = Caller(onboarding.create_app())
    status, answer = restarted("POST", "/onboarding", {"user_id": "ada"})
    assert (status, answer["question"], answer["profile"]["name"]) == (200, "What is your role?", "Ada")
    assert 6 * DAY < int(valkey.client.pttl("chat:session:map:onboarding:{ada}")) <= 7 * DAY
    restarted("POST", "/onboarding/ada", {"answer": "mathematician"})
    assert restarted("POST", "/onboarding/ada", {"answer": "a program"})[1]["complete"]
    assert Caller(onboarding.create_app())("GET", "/onboarding/ada")[0] == 404


@every_store
@pytest.mark.parametrize("told", [[], ["Ada", "mathematician"]])
def test_of_two_answers_at_once_one_is_taken(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    app = onboarding.create_app()
    call = Caller(app)
    call("POST", "/onboarding", {"user_id": "ada"})
    for answer in told:
        call("POST", "/onboarding/ada", {"answer": answer})
    both_have_loaded = threading.Barrier(2, timeout=10)
    next_topic, waited = onboarding.State.missing, threading.local()

    def missing(state: onboarding.State) -> str | None:
        if not hasattr(waited, "once"):
            waited.once = True
            both_have_loaded.wait()
        return next_topic(state)

    with monkeypatch.context() as patched:
        patched.setattr(onboarding.State, "missing", missing)
        given = at_once(
            lambda: Caller(app)("POST", "/onboarding/ada", {"answer": "one"}),
            lambda: Caller(app)("POST", "/onboarding/ada", {"answer": "two"}),
        )
    (taken, answered), (refused, why) = sorted(given, key=lambda answer: int(answer[0]))
    # After the last answer there may be nothing left to conflict with.
    assert (taken, refused) in ([(200, 409)] if not told else [(200, 409), (200, 404)])
    assert why["written"] is False
    status, now = call("GET", "/onboarding/ada")
    if told:
        assert answered["complete"]
        assert status == 404
    else:
        assert now["profile"] == answered["profile"]


# ---- channels


def spoken(text: str, conversation: Any = 42, message_id: Any = None, channel: str = "telegram") -> dict[str, Any]:
    body = {"channel": channel, "conversation_id": conversation, "user_id": 7, "message": text}
    return body if message_id is None else {**body, "message_id": message_id}


def talk(app: Flask, text: str, *where: Any, **also: Any) -> tuple[int, Any]:
    """Status, and the whole answer, with its session's id."""
    response = app.test_client().post("/api/v1/chat", json=spoken(text, *where, **also))
    return response.status_code, response.json


NAMED = {"channel": "telegram", "conversation_id": 42}


@every_store
def test_channels_answer_as_they_did_with_a_dict() -> None:
    requests: list[Request] = [
        ("POST", "/api/v1/chat", spoken("Who am I?")),
        ("POST", "/api/v1/chat", spoken("My name is Ada")),
        ("POST", "/api/v1/chat", spoken("Who am I?")),
        ("POST", "/api/v1/chat", spoken("Who am I?", channel="slack")),
        ("POST", "/api/v1/chat", {**NAMED, "user_id": 7}),
        ("POST", "/api/v1/chat", spoken("x", channel="a:b")),
        ("POST", "/api/v1/chat", [1]),
        ("POST", "/api/v1/chat", spoken("one more")),
        ("DELETE", "/api/v1/chat", NAMED),
        ("DELETE", "/api/v1/chat?channel=telegram&conversation_id=42", None),
        ("POST", "/api/v1/chat/compact", NAMED),
        ("POST", "/api/v1/chat", spoken("Who am I?")),
    ]
    answers = Caller(channels.create_app()).play(requests)
    assert answers == Caller(app_of(source_before("channels"))).play(requests)
    assert [status for status, _ in answers] == [200, 200, 200, 200, 400, 400, 400, 200, 200, 200, 404, 200]
    assert answers[2][1]["reply"] == "You are Ada."
    assert answers[3][1]["reply"] == answers[11][1]["reply"] == "You have not told me your name."
    assert answers[7][1]["reply"] == "Noted as number 4."
    assert [answers[8][1], answers[9][1]] == [{"cleared": True}, {"cleared": False}]


@every_store
def test_a_conversation_whose_session_is_gone_begins_anew(url: str, request: pytest.FixtureRequest) -> None:
    app = channels.create_app()
    old = talk(app, "My name is Ada")[1]["session_id"]
    assert talk(app, "Hello")[1]["session_id"] == old
    with app.app_context():
        channels.convstore.delete_session(old)
    _, answer = talk(app, "Who am I?")
    assert answer["reply"] == "You have not told me your name."
    assert answer["session_id"] != old
    if url != "memory://":
        server: Server = request.getfixturevalue("valkey")
        server.client.pexpire(f"chat:session:{{{answer['session_id']}}}", -1)
        assert talk(app, "Hello")[1]["session_id"] not in (old, answer["session_id"])


def history_of(app: Flask, session_id: str) -> list[Any]:
    with app.app_context():
        session = channels.convstore.get_session(session_id)
        assert isinstance(session, dict)
        history: list[Any] = session["history"]
        return history


@every_store
def test_a_message_that_is_delivered_again_gets_the_first_answer() -> None:
    app = channels.create_app()
    first = talk(app, "one", message_id=1)
    assert talk(app, "two", message_id=2)[1]["reply"] == "Noted as number 2."
    assert talk(app, "one", message_id=1) == first
    assert len(history_of(app, first[1]["session_id"])) == 4
    # Without an id two equal messages are two messages, and another conversation has ids of its own.
    assert talk(app, "one")[1]["reply"] == "Noted as number 3."
    assert talk(app, "one", "another", message_id=1)[1]["reply"] == "Noted as number 1."
    # What is still there after a compaction is known too.
    app.test_client().post("/api/v1/chat/compact", json=NAMED)
    assert talk(app, "two", message_id=2)[1]["reply"] == "Noted as number 2."


@every_store
def test_a_message_that_is_delivered_twice_at_once_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app = channels.create_app()
    session_id = talk(app, "hello")[1]["session_id"]
    resolve, both_have_resolved = channels.convstore.resolve, threading.Barrier(2, timeout=10)
    waited = threading.local()

    def resolved(alias: str, **options: Any) -> Any:
        found = resolve(alias, **options)
        if not hasattr(waited, "once"):
            waited.once = True
            both_have_resolved.wait()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(channels.convstore, "resolve", resolved)
        given = at_once(*[lambda: talk(app, "one", message_id=1)] * 2)
    answered = {"session_id": session_id, "reply": "Noted as number 2."}
    assert [answer for status, answer in given if status == 200] in ([answered], [answered, answered])
    assert {status for status, _ in given} <= {200, 409}
    assert talk(app, "one", message_id=1) == (200, answered)
    assert [message["content"] for message in history_of(app, session_id)][2:] == ["one", "Noted as number 2."]


@every_store
def test_a_second_message_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    app = channels.create_app()
    refused = []

    def slow(history: list[Any], data: dict[str, Any]) -> str:
        refused.append(app.test_client().post("/api/v1/chat", json=spoken("impatient")))
        refused.append(app.test_client().post("/api/v1/chat/compact", json=NAMED))
        return "at last"

    monkeypatch.setattr(channels, "answer", slow)
    status, answer = talk(app, "hello")
    assert (status, answer["reply"]) == (200, "at last")
    for response in refused:
        assert response.status_code == 409
        assert response.json["type"] == "urn:convstore:turn-in-progress"  # type: ignore[index]
        assert int(response.headers["Retry-After"]) > 0
    assert [message["content"] for message in history_of(app, answer["session_id"])] == ["hello", "at last"]


@every_store
def test_an_answer_that_failed_is_made_when_the_message_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = channels.create_app()
    with monkeypatch.context() as patched:
        patched.setattr(channels, "answer", lambda history, data: 1 / 0)
        assert talk(app, "one", message_id=1)[0] == 500
    status, answer = talk(app, "one", message_id=1)
    assert (status, answer["reply"]) == (200, "Noted as number 1.")
    assert len(history_of(app, answer["session_id"])) == 2


@every_store
def test_compact_goes_on_in_another_session(monkeypatch: pytest.MonkeyPatch) -> None:
    app = channels.create_app()
    for number in range(4):
        _, said = talk(app, f"line {number}")
    compacted = app.test_client().post("/api/v1/chat/compact", json=NAMED).json
    assert compacted is not None
    assert (compacted["before"], compacted["messages"]) == (said["session_id"], 5)
    _, answer = talk(app, "and on")
    assert (answer["session_id"], answer["reply"]) == (compacted["session_id"], "Noted as number 5.")
    history = history_of(app, answer["session_id"])
    assert history[0] == {"role": "system", "content": "The user said before: line 0; line 1"}
    assert len(history_of(app, said["session_id"])) == 8, "the old one stays readable"
    again = app.test_client().post("/api/v1/chat/compact", json=NAMED).json
    assert again is not None
    assert history_of(app, again["session_id"])[0]["content"] == "The user said before: line 0; line 1; line 2"


@every_store
def test_a_conversation_that_is_compacted_at_the_last_moment_is_resolved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = channels.create_app()
    old = talk(app, "hello")[1]["session_id"]
    resolve = channels.convstore.resolve
    compacted: list[Any] = []

    def too_late(alias: str, **options: Any) -> Any:
        found = resolve(alias, **options)
        if not compacted:
            compacted.append(channels.convstore.compact(old, "They said hello."))
        return found

    monkeypatch.setattr(channels.convstore, "resolve", too_late)
    status, answer = talk(app, "again")
    assert (status, answer["session_id"]) == (200, compacted[0].session_id)
    assert [message["content"] for message in history_of(app, answer["session_id"])][-2:] == [
        "again",
        "Noted as number 2.",
    ]


@every_store
def test_no_text_of_a_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = channels.create_app()
    for message_id in (1, 2, 2):
        talk(app, "the secret", message_id=message_id)
    talk(app, "the secret" * 200_000)
    assert "the secret" not in caplog.text


# ---- orchestrator

WORKED: list[Request] = [
    ("POST", "/tasks", {"topic": 7}),
    ("POST", "/tasks/none/step", None),
    ("GET", "/tasks/none", None),
    ("POST", "/tasks", {"topic": "Redis or Valkey?"}),
    ("POST", "/tasks/<id>/step", None),
    ("POST", "/tasks/<id>/step", None),
    ("POST", "/tasks/<id>/step", None),
    ("POST", "/tasks/<id>/step", None),
    ("GET", "/tasks/<id>", None),
    ("DELETE", "/tasks/<id>", None),
    ("DELETE", "/tasks/<id>", None),
    ("POST", "/tasks/<id>/step", None),
]


@every_store
def test_the_orchestrator_works_as_it_did_with_a_dict() -> None:
    answers = Caller(orchestrator.create_app()).play(WORKED)
    assert answers == Caller(app_of(source_before("orchestrator"))).play(WORKED)
    assert [status for status, _ in answers] == [400, 404, 404, 201, *[200] * 6, 404, 404]
    assert answers[4][1]["plan"] == ["What is redis?", "What is valkey?"]
    task = answers[8][1]
    assert task["complete"] is True
    assert task["results"]["write"].startswith("Redis or Valkey?: Redis keeps")
    assert [message["content"] for message in task["history"] if message["role"] == "assistant"] == [
        "Done: plan.",
        "Done: research.",
        "Done: write.",
        "Nothing is left to do.",
    ]


@on_a_server
def test_a_task_goes_on_in_another_process_under_keys_and_lifetimes_of_its_own(valkey: Server) -> None:
    call = Caller(orchestrator.create_app())
    call("POST", "/tasks", {"topic": "Flask"})
    for lifetime in (DAY, DAY, 7 * DAY):
        worker = Caller(orchestrator.create_app())
        worker.id = call.id
        with valkey.moment() as moment:
            assert worker("POST", "/tasks/<id>/step")[0] == 200
        assert valkey.end_of(f"orchestrator:{{{call.id}}}") - lifetime in moment
    assert all(key.startswith(b"orchestrator:") for key in valkey.client.scan_iter())


@on_a_server
def test_the_orchestrator_stands_beside_the_chats_of_an_app() -> None:
    app = orchestrator.create_app()
    chats = ConversationStore(app)
    app.register_blueprint(chats.blueprint)
    call = Caller(app)
    call("POST", "/tasks", {"topic": "Flask"})
    assert call("GET", "/tasks/<id>")[0] == 200
    assert call("GET", "/sessions/<id>")[0] == 404


@every_store
def test_two_never_take_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    app = orchestrator.create_app()
    call = Caller(app)
    call("POST", "/tasks", {"topic": "Flask"})
    began, go_on = threading.Event(), threading.Event()

    def slow(task: dict[str, Any]) -> list[str]:
        began.set()
        assert go_on.wait(10)
        return []

    monkeypatch.setitem(orchestrator.orchestrator.steps, "plan", slow)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(call("POST", "/tasks/<id>/step")))
    thread.start()
    assert began.wait(10)
    second = Caller(app)
    second.id = call.id
    status, answer = second("POST", "/tasks/<id>/step")
    go_on.set()
    thread.join()
    assert (status, answer["type"]) == (409, "urn:convstore:turn-in-progress")
    assert [status for status, _ in first] == [200]
    assert list(call("GET", "/tasks/<id>")[1]["results"]) == ["plan"]


@every_store
def test_health_tells_of_agent_and_store() -> None:
    status, report = Caller(orchestrator.create_app())("GET", "/health")
    assert (status, report["status"], report["store"]["connected"]) == (200, "ok", True)
    assert report["agent"]["steps"] == ["plan", "research", "write"]


@while_away
@pytest.mark.parametrize(("fallback", "expected"), [("journal", (200, "degraded")), ("none", (503, "unavailable"))])
def test_health_is_a_503_when_nothing_can_be_served(
    fallback: str, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that serves from its journal is not drained."""
    monkeypatch.setenv("ORCHESTRATOR_FALLBACK", fallback)
    status, report = Caller(orchestrator.create_app())("GET", "/health")
    assert ((status, report["status"]), report["store"]["connected"]) == (expected, False)
