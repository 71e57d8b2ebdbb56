"""All commands on a Cluster and behind Sentinels. What each does is tested elsewhere: here it reaches the right server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore, Message

from ..processes import wait_for
from ..topologies import cluster, sentinels
from .commands import lines, run

pytestmark = pytest.mark.server

NAMES = [f"s{number}" for number in range(8)]


@pytest.mark.parametrize("topology", [cluster, sentinels])
def test_every_command_reaches_the_sessions(
    topology: Callable[[], AbstractContextManager[Any]], tmp_path: Path
) -> None:
    with topology() as found:
        app = Flask("app", instance_path=str(tmp_path))
        app.config.update(CONVSTORE_URL=found.url, CONVSTORE_FALLBACK="none")
        store = ConversationStore(app)
        with app.app_context():
            for name in NAMES:
                store.save_session(name, {"history": [{"role": "user", "content": f"hello from {name}"}]}, owner="ada")
        _looks(found.url)
        _follows(app, store, found.url)
        _goes_and_comes_back(found.url, tmp_path / "saved.jsonl")
        with app.app_context():
            assert [session["history"][0]["content"] for session in map(store.get_session, NAMES[1:3]) if session] == [
                "hello from s1",
                "hello from s2",
            ]


def _looks(url: str) -> None:
    assert {line["session_id"] for line in lines(run(url, "ls", "--owner", "ada", "--json"))} == set(NAMES)
    for name in NAMES:
        assert lines(run(url, "show", name, "--json"))[0]["session_id"] == name
        assert f"hello from {name}" in run(url, "tail", name).stdout
    (figures,) = lines(run(url, "stats", "--json"))
    assert figures["alive"] == len(NAMES)
    (his,) = lines(run(url, "stats", "--owner", "ada", "--json"))
    assert his["alive"] == len(NAMES)
    assert lines(run(url, "stats", "--census", "--json"))[0]["sessions"] == len(NAMES)
    assert "0 entries" in run(url, "repair").stdout
    assert "p99" in run(url, "bench", "--count", "10").stdout


def _follows(app: Flask, store: ConversationStore, url: str) -> None:
    """A process prints what another one adds."""
    command = [sys.executable, "-m", "flask_convstore", "--url", url, "tail", "-f", "s3"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as following:
        assert following.stdout
        try:
            assert "hello from s3" in following.stdout.readline()
            with app.app_context():
                store.append("s3", Message({"role": "user", "content": "and more"}), owner=ANY)
            assert "and more" in following.stdout.readline()
        finally:
            following.terminate()


def _goes_and_comes_back(url: str, saved: Path) -> None:
    run(url, "rm", "s0", "-y")
    run(url, "owner", "export", "ada", "-o", str(saved))
    assert len(saved.read_text().splitlines()) == len(NAMES) - 1
    run(url, "owner", "delete", "ada", "-y")
    wait_for(lambda: not run(url, "export").stdout, "sessions are left")
    run(url, "import", str(saved))
    assert {line["session_id"] for line in lines(run(url, "export"))} == set(NAMES[1:])
