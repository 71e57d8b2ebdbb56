"""``ls``, ``show``, ``tail``, ``stats`` and ``rm``."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore, Figures, PlaceFigures
from flask_convstore.cli.sessions import _figure_lines

from ..processes import wait_for
from ..servers import Server
from ..topologies import cluster
from .commands import lines, run, run_in

HI = {"role": "user", "content": "hi"}


@pytest.fixture
def app(url: str) -> Flask:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=url)
    store = ConversationStore(app)
    with app.app_context():
        store.save_session("a", {"history": [HI, {"role": "assistant", "content": "two\nlines"}], "n": 1}, owner="ada")
        store.save_session("b", [HI])
        store.save_message("room", "user", "in a chat")
        store.mapping("notes", default=dict)["k"] = {"v": 1}
    return app


def store_of(app: Flask) -> ConversationStore:
    store: ConversationStore = app.extensions["convstore"]["convstore"].convstore
    return store


def test_sessions_are_listed(app: Flask) -> None:
    found = {line["session_id"]: line for line in lines(run_in(app, "ls", "--json"))}
    assert found.keys() == {"a", "b"}
    assert (found["a"]["owner"], found["a"]["messages"], found["a"]["title"]) == ("ada", 2, "hi")
    assert found["b"]["owner"] is None
    assert "ada" in run_in(app, "ls").stdout


def test_sessions_of_one_owner_or_of_nobody_are_listed(app: Flask) -> None:
    assert [line["session_id"] for line in lines(run_in(app, "ls", "--owner", "ada", "--json"))] == ["a"]
    assert [line["session_id"] for line in lines(run_in(app, "ls", "--nobody", "--json"))] == ["b"]


def test_other_places_are_listed(app: Flask) -> None:
    assert [line["session_id"] for line in lines(run_in(app, "ls", "--place", "chats", "--json"))] == ["room"]
    assert [line["session_id"] for line in lines(run_in(app, "ls", "--place", "mapping:notes", "--json"))] == ["k"]


def test_a_list_goes_on_behind_its_cursor(valkey: Server) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url)
    store = ConversationStore(app)
    with app.app_context():
        for number in range(25):
            store.save_session(f"s{number}", [], owner="ada")
    words, found = ["ls", "--owner", "ada", "--limit", "10", "--json"], []
    cursor: list[str] = []
    for _ in range(3):
        done = run_in(app, *words, *cursor)
        found += [line["session_id"] for line in lines(done)]
        cursor = ["--cursor", done.stderr.partition("--cursor ")[2].strip().strip("'")]
    assert sorted(found) == sorted(f"s{number}" for number in range(25))
    assert "More follow" not in done.stderr
    assert len(lines(run_in(app, *words, "--all"))) == 25


def test_a_session_is_shown_and_lives_no_longer_for_it(app: Flask) -> None:
    (shown,) = lines(run_in(app, "show", "a", "--json"))
    assert (shown["data"], shown["messages"][0]["body"]) == ({"n": 1}, HI)
    said = run_in(app, "show", "a", "--last", "1").stdout
    assert "owner: ada" in said
    assert "assistant: two lines" in said
    assert lines(run_in(app, "show", "k", "--place", "mapping:notes", "--json"))[0]["data"] == {"v": 1}
    done = run_in(app, "show", "nobody", status=1)
    assert (done.stdout, done.stderr) == ("", "nobody: there is no such session.\n")


def test_of_a_damaged_session_the_rest_is_shown(valkey: Server) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url)
    store = ConversationStore(app)
    with app.app_context():
        store.save_session("a", {"history": [HI], "n": 1})
    valkey.client.delete("chat:session:{a}:history")
    done = run_in(app, "show", "a", "--json", status=1)
    assert lines(done)[0]["left"]["n"] == 1
    assert "is damaged" in done.stderr
    assert "a is damaged" in run_in(app, "ls", status=1).stderr


def test_the_last_messages_are_shown(app: Flask) -> None:
    assert [line["seq"] for line in lines(run_in(app, "tail", "a", "--json"))] == [1, 2]
    assert [line["seq"] for line in lines(run_in(app, "tail", "a", "-n", "1", "--json"))] == [2]
    assert "does not exist" in run_in(app, "tail", "nobody", status=1).stderr


def test_no_message_rules_the_terminal(app: Flask) -> None:
    with app.app_context():
        store_of(app).append("b", {"role": "user", "content": "a\x1b[2Jb\u202ec"})
    for command in ("tail", "show"):
        said = run_in(app, command, "b").stdout
        assert "\x1b" not in said
        assert "a\ufffd[2Jb\ufffdc" in said
        assert "\x1b" not in run_in(app, command, "b", "--json").stdout


def test_messages_are_followed_as_they_come(valkey: Server) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url)
    store = ConversationStore(app)
    command = [
        sys.executable,
        "-u",
        "-m",
        "flask_convstore",
        "--url",
        valkey.url,
        "tail",
        "-f",
        "-n",
        "0",
        "s",
        "--json",
    ]
    with app.app_context():
        store.save_session("s", [HI])
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: bool(valkey.client.pubsub_channels("*{s}:bell")), "nobody listens")
            for number in range(3):
                store.append("s", {"role": "user", "content": f"m{number}"})
            assert process.stdout
            said = [process.stdout.readline() for _ in range(3)]
            store.delete_session("s")
            _, told = process.communicate(timeout=20)
    assert [f"m{number}" in line for number, line in enumerate(said)] == [True] * 3
    assert "has ended" in told
    assert process.returncode == 0


def test_a_follower_may_be_stopped_by_ctrl_c(valkey: Server) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url)
    store = ConversationStore(app)
    command = [sys.executable, "-m", "flask_convstore", "--url", valkey.url, "tail", "-f", "s"]
    with app.app_context():
        store.save_session("s", [HI])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: bool(valkey.client.pubsub_channels("*{s}:bell")), "nobody listens")
        process.send_signal(signal.SIGINT)
        try:
            said, told = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, told) == (0, "")
    assert "user: hi" in said


def test_keys_are_counted_by_kind(app: Flask, url: str) -> None:
    (counts,) = lines(run_in(app, "stats", "--census", "--json"))
    assert counts["sessions"] == 2
    assert counts["whole"]
    if url != "memory://":
        assert (counts["chats"], counts["values of mappings"], counts["histories"]) == (1, 1, 3)
        assert "others" not in counts
        (few,) = lines(run_in(app, "stats", "--census", "--json", "--most", "2"))
        assert (few["keys"], few["whole"]) == (2, False)
        assert "first 2 keys" in run_in(app, "stats", "--census", "--most", "2").stdout


def test_keys_of_figures_are_a_kind_of_their_own(valkey: Server) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url, CONVSTORE_FIGURES=True)
    store = ConversationStore(app)
    with app.app_context():
        store.save_session("a", {"n": 1})
        store.timeline()
    (counts,) = lines(run_in(app, "stats", "--census", "--json"))
    assert counts["figures"] >= 3
    assert "others" not in counts
    assert any(line.startswith("since") for line in run_in(app, "stats").stdout.splitlines())


def test_figures_are_told_to_people_and_programs(app: Flask) -> None:
    (found,) = lines(run_in(app, "stats", "--json"))
    assert (found["alive"], found["is_exact"], found["error"]) == (4, True, 0.0)
    assert {place: one["alive"] for place, one in found["places"].items()} == {
        "sessions": 2,
        "chats": 1,
        "mapping:notes": 1,
    }
    assert found["average_size"] == found["size"] / 4
    assert found["started"] is None
    said = run_in(app, "stats").stdout.splitlines()
    assert said[0] == "alive: 4"
    assert f"messages: {found['messages']}" in said
    assert not [line for line in said if line.startswith("since")]
    (own,) = lines(run_in(app, "stats", "--owner", "ada", "--json"))
    assert own["alive"] == sum(one.get("owner") == "ada" for one in lines(run_in(app, "ls", "--json")))


def test_estimates_are_told_as_such() -> None:
    places = {"sessions": PlaceFigures(9_000, 18_000, 2**21)}
    found = Figures(
        alive=9_000,
        started=3,
        expired=1,
        deleted=2,
        messages=18_000,
        size=2**21,
        since_ms=0,
        is_exact=False,
        error=0.021,
        places=places,
    )
    assert list(_figure_lines(found)) == [
        "alive: about 9000 (standard error 2.1%)",
        "messages: about 18000",
        "size: about 2.0 MB, 233 bytes a session",
        "since 1970-01-01 00:00:00: 3 started, 2 deleted, about 1 expired",
        "sessions: about 9000 alive, 18000 messages, 2.0 MB",
    ]


def test_sessions_are_deleted_when_asked_or_told_to(app: Flask) -> None:
    assert "Aborted" in run_in(app, "rm", "a", given="n\n", status=1).output
    assert run_in(app, "rm", "a", given="y\n").stdout.endswith("a: deleted.\n")
    done = run_in(app, "rm", "a", "b", "--yes", "--json", status=1)
    assert lines(done) == [{"session_id": "b", "deleted": True}]
    assert "a: there is no such session" in done.stderr
    run_in(app, "rm", "room", "--place", "chats", "-y")
    with app.app_context():
        store = store_of(app)
        assert [store.get_session(name, owner=ANY) for name in "ab"] == [None, None]
        assert store.get_conversation("room") == []


@pytest.mark.server
def test_a_cluster_is_served_too() -> None:
    with cluster() as found:
        app = Flask("app")
        app.config.update(CONVSTORE_URL=found.url)
        store = ConversationStore(app)
        with app.app_context():
            for number in range(10):
                store.save_session(f"s{number}", [HI], owner="ada")
        names = {f"s{number}" for number in range(10)}
        assert {line["session_id"] for line in lines(run(found.url, "ls", "--json"))} == names
        assert {line["session_id"] for line in lines(run(found.url, "ls", "--owner", "ada", "--json"))} == names
        (counts,) = lines(run(found.url, "stats", "--census", "--json"))
        assert (counts["sessions"], len(counts["memory"])) == (10, 3)
        assert "s1: deleted." in run(found.url, "rm", "s1", "-y").stdout
        assert len(lines(run(found.url, "show", "s2", "--json"))) == 1
