"""The settings in README and docs are the declared ones. What else they say, ``test_docs`` looks after."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from flask_convstore.config import Settings

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
    for name, default, _ in ROW.findall(README):
        assert (name, default) in [row[:2] for row in declared]
