"""The frame: help everywhere, errors in plain words, pipes, apps with several stores, and nothing that costs an app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.cli.group import convstore

from ..project.test_docs import TEXTS
from ..project.test_imports import imported
from ..servers import Server
from ..topologies import sentinels
from .commands import lines, run, run_in


def tree(command: click.Command = convstore, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, by their full names."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found
        yield from tree(found, f"{name} {word}".strip())


COMMANDS = dict(tree())


def test_each_command_has_help_and_json() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"
        assert "is_json" in {parameter.name for parameter in command.params}, name


def test_the_docs_have_each_command_and_each_option() -> None:
    page = TEXTS["docs/commands.md"]
    rows = {name: row for row in page.splitlines() for name in COMMANDS if row.startswith(f"| `{name}")}
    assert rows.keys() == COMMANDS.keys()
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "is_json":
                assert any(f"`{option}" in rows[name] for option in parameter.opts), f"{name} {parameter.opts}"


def test_no_documented_command_is_gone() -> None:
    page = TEXTS["docs/commands.md"]
    named = {row.split("`")[1] for row in page.splitlines() if row.startswith("| `")}
    for words in named:
        assert any(words == name or words.startswith(f"{name} ") for name in COMMANDS), words


def test_the_entry_point_costs_no_import_of_a_command() -> None:
    found = imported("import flask_convstore.cli.group")
    assert not {name for name in found if name.startswith("flask_convstore.cli.")} - {"flask_convstore.cli.group"}
    assert not {name for name in found if name.startswith(("flask_convstore.stores.redis", "sqlite3"))}


def test_a_server_that_is_away_is_told_in_plain_words() -> None:
    done = run("redis://127.0.0.1:1/0", "ls", status=1)
    assert done.stderr.startswith("Error: ")
    assert "cannot reach the server" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_a_server_that_is_away_is_told_once() -> None:
    command = [sys.executable, "-m", "flask_convstore", "--url", "redis://127.0.0.1:1/0", "ls"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


def test_a_bad_url_and_bad_settings_are_told_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Error: " in run("http://x", "ls", status=1).stderr
    monkeypatch.setenv("CONVSTORE_TTL", "soon")
    assert "CONVSTORE_TTL" in run("redis://127.0.0.1:1/0", "ls", status=1).stderr


def test_no_password_is_shown() -> None:
    for words in (["ls"], ["doctor"]):
        done = run("redis://u:geheim@127.0.0.1:1/0", *words, status=2 if words == ["doctor"] else 1)
        assert "geheim" not in done.output


def test_the_environment_names_the_store(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_URL", valkey.url)
    monkeypatch.setenv("CONVSTORE_PREFIX", "mine:")
    app = Flask("a")
    store = ConversationStore(app)
    with app.app_context():
        store.save_session("s", [])
    done = subprocess.run(
        [sys.executable, "-m", "flask_convstore", "ls", "--json"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["session_id"] == "s"
    assert done.stderr == ""


@pytest.mark.server
def test_a_reader_that_goes_away_ends_the_command_quietly(valkey: Server) -> None:
    app = Flask("a")
    app.config.update(CONVSTORE_URL=valkey.url, CONVSTORE_FALLBACK="none", CONVSTORE_MAX_SESSIONS=0)
    store = ConversationStore(app)
    with app.app_context():
        for number in range(200):
            store.save_session(f"s{number}", {"text": "x" * 1000, "history": []})
    command = f"{sys.executable} -m flask_convstore --url {valkey.url} export - | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def app_with(*names: str) -> Flask:
    app = Flask("app")
    for name in names:
        word = "CONVSTORE" if name == "convstore" else name.upper()
        app.config.update({f"{word}_URL": "memory://"})
        store = ConversationStore(app, name=name, config_prefix=word)
        with app.app_context():
            store.save_session(f"of {name}", [])
    return app


def test_an_app_gives_its_store() -> None:
    assert [line["session_id"] for line in lines(run_in(app_with("convstore"), "ls", "--json"))] == ["of convstore"]
    assert [line["session_id"] for line in lines(run_in(app_with("other"), "ls", "--json"))] == ["of other"]


def test_an_app_with_several_stores_is_asked_by_name() -> None:
    app = app_with("convstore", "bot")
    assert [line["session_id"] for line in lines(run_in(app, "--name", "bot", "ls", "--json"))] == ["of bot"]
    assert [line["session_id"] for line in lines(run_in(app, "ls", "--json"))] == ["of convstore"]
    assert "one of bot, convstore" in run_in(app, "--name", "x", "ls", status=2).stderr
    assert "give --name" in run_in(app_with("a", "b"), "ls", status=2).stderr


def test_options_that_do_not_belong_together_are_refused() -> None:
    assert "no ConversationStore" in run_in(Flask("app"), "ls", status=2).stderr
    assert "--prefix" in run_in(app_with("convstore"), "--prefix", "x:", "ls", status=2).stderr
    assert "--name" in run("memory://", "--name", "x", "ls", status=2).stderr
    assert "no place" in run("memory://", "ls", "--place", "attic", status=2).stderr


def test_flask_shell_has_the_store() -> None:
    app = app_with("convstore", "bot")
    context = app.make_shell_context()
    assert isinstance(context["convstore"], ConversationStore)
    assert context["bot"].name == "bot"


@pytest.mark.server
def test_sentinels_lead_to_the_store() -> None:
    with sentinels() as found:
        app = Flask("a")
        app.config.update(CONVSTORE_URL=found.url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        with app.app_context():
            store.save_session("s", [])
        assert [line["session_id"] for line in lines(run(found.url, "ls", "--json"))] == ["s"]
        assert json.loads(run(found.url, "export").stdout)["session_id"] == "s"
        assert lines(run(found.url, "stats", "--census", "--json"))[0]["sessions"] == 1
        told = {line["about"]: line["state"] for line in lines(run(found.url, "doctor", "--json", status=2))}
        assert {about for about, state in told.items() if state == "problem"} == {"persistence"}
        assert "p99" in run(found.url, "bench", "--count", "10").stdout
        assert "0 entries" in run(found.url, "repair").stdout
