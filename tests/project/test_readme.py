"""The README is short and its app runs as it says. The settings of the docs are the declared ones.

``test_docs`` looks after the rest of these pages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.config import Settings

from ..processes import servers, supervisors, wait_for
from ..servers import free_port
from .test_docs import PYTHON

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text("utf-8")


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 9_999:
        return f"{value:_}"
    return str(value)


ROW = re.compile(r"^\| `([A-Z_]+)` \| `(.*?)` \| (.*) \|$", re.MULTILINE)


def test_every_setting_stands_in_the_docs_and_back() -> None:
    declared = [
        (setting.name.upper(), shown(setting.default), setting.metadata["document"])
        for setting in dataclasses.fields(Settings)
    ]
    assert ROW.findall(SETTINGS) == declared


def test_the_readme_is_short() -> None:
    assert len(README) <= 4_500


# ---- its complete app, as a reader would run it


@contextlib.contextmanager
def served(start: str, folder: Path) -> Iterator[str]:
    """The address of the app in *folder*, started by the line *start* of the README, with a port and a folder of ours."""
    setting, program, *options = shlex.split(start)
    assert (setting, program) == ("CONVSTORE_URL=embedded:///tmp/chat", "flask")
    port = free_port()
    environment = {**os.environ, "CONVSTORE_URL": f"embedded://{folder}/data?idle=0.3"}
    command = [sys.executable, "-m", program, *options, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    address = f"http://localhost:{port}"
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)
        wait_for(lambda: not servers(folder / "data") and not supervisors(folder / "data"), "a process is left behind")


def curl(line: str) -> Any:
    """The answer to the request that a curl command makes."""
    options = shlex.split(line, comments=True)[1:]
    body = options[options.index("--json") + 1].encode() if "--json" in options else b""
    request = urllib.request.Request(f"http://{options[-1]}", body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


@pytest.mark.server
def test_the_complete_app_runs_as_the_readme_says(tmp_path: Path) -> None:
    app = next(block for block in PYTHON if block.page == "README.md")
    (tmp_path / "chat.py").write_text(app.code, "utf-8")
    start, begin, go_on = re.findall(r"^(?:CONVSTORE_URL=|curl ).*", README, re.MULTILINE)
    with served(start, tmp_path) as address:
        host = address.removeprefix("http://")

        def is_there() -> bool:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/sessions/health") as response:
                return bool(response.status == 200)
            return False

        wait_for(is_there, "the app does not come up")
        session_id = curl(begin.replace("localhost:5000", host))["session_id"]
        answer = curl(go_on.replace("localhost:5000", host).replace("2f1c…", session_id))
    assert answer["reply"]["content"] == "You said: hello"
