"""The README says what is true: its settings are the declared ones, its targets exist, its diff runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from flask import Flask, request

from flask_convstore.config import Settings

ROOT = Path(__file__).parent.parent
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
    for name, default, _ in ROW.findall(README):
        assert (name, default) in [row[:2] for row in declared]


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_diff_runs_before_and_after() -> None:
    [diff] = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    answers = []
    for kept in ("- ", "+ "):
        code = "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in (kept[0], " ", "\n"))
        app = Flask("readme")
        app.config["CONVSTORE_URL"] = "memory://"
        exec(code, {"app": app, "request": request, "llm": lambda history: f"{len(history)}: {history[-1]['content']}"})
        client = app.test_client()
        answers.append([client.post("/chat/a", json={"message": text}).json for text in ("hi", "again")])
    assert answers[0] == answers[1]
    assert answers[0][1] == {"role": "assistant", "content": "3: again"}
