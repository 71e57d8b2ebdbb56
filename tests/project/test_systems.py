"""Systems other than ours, as far as they can be played here: without locks of files, and without forks, as Windows is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..servers import Server

LACKING = """
import os, sys

sys.modules["fcntl"] = None
for name in ("fork", "geteuid", "register_at_fork"):
    delattr(os, name)
url, instance_path = sys.argv[1:]
"""
"""Takes from Python whatever such a system lacks, before anything of ours is imported."""

SERVE = """
import logging

import flask
from flask_convstore import ConfigurationError, ConversationStore

logging.basicConfig(stream=sys.stdout, format="%(message)s")
app = flask.Flask("app", instance_path=instance_path)
app.config.update(CONVSTORE_URL=url)
try:
    convstore = ConversationStore(app)
except ConfigurationError as error:
    print(error)
    sys.exit()
app.register_blueprint(convstore.blueprint)
convstore.reply(lambda turn: f"reply to {len(turn.history)}")
client = app.test_client()
started = client.post("/sessions", json={"message": {"content": "hi"}})
print(client.get(started.headers["Location"]).json["message_count"])
"""


def served(url: str, folder: Path) -> list[str]:
    """Output of a process on such a system."""
    command = [sys.executable, "-W", "error", "-c", LACKING + SERVE, url, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_sessions_in_memory_need_nothing_of_the_system(tmp_path: Path) -> None:
    """And nobody is warned of a journal that they would not have."""
    assert served("memory://", tmp_path) == ["2"]


def test_a_server_is_used_without_a_journal(tmp_path: Path, valkey: Server) -> None:
    warning, count = served(valkey.url, tmp_path)
    assert "CONVSTORE_FALLBACK=journal needs file locks" in warning
    assert count == "2"


def test_a_server_of_our_own_is_refused_with_the_cure(tmp_path: Path) -> None:
    (said,) = served(f"embedded://{tmp_path}/data", tmp_path)
    assert "needs Linux or macOS. On Windows use redis://" in said
