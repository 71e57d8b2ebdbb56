"""The Lua scripts: a file for each atomic operation, with the files that it includes.

A line ``--#include _name.lua`` stands for the text of that file. Shared functions would cost each call, shared text costs
nothing.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^[ \t]*--#include (\S+)$", re.MULTILINE)


@cache
def script(name: str) -> tuple[str, str]:
    """Read a script. Return its text, with all includes, and its SHA-1."""
    text = _text_of(f"{name}.lua")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _text_of(file: str) -> str:
    text = resources.files(__package__).joinpath("lua", file).read_text("utf-8")
    return _INCLUDE.sub(lambda include: _text_of(include[1]), text)
