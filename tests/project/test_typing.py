"""The types of the public surface: the Python code of pages passes mypy --strict as a user's program.

Readers write functions without annotations, as the pages do, so that only the bodies are checked. pyright is not tried:
run it by hand over ``python -m tests.project.test_typing FOLDER``, which writes the programs to a folder.
"""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flask_convstore

from .test_docs import CHAINS, ROOT, Block

PAGES = ("README.md", "docs/index.md", "docs/quickstart.md", "docs/mapping.md", "docs/sessions.md", "docs/turns.md")
FLASK = ("Flask", "abort", "g", "request", "session", "url_for")
BEFORE = {
    "app": "app = Flask('docs')",
    "convstore": "convstore = ConversationStore(Flask('docs'))",
    "llm": "def llm(history: list[Any]) -> str:\n    return str(history)",
}
"""Definitions that the code of a page finds, by name."""

USERS_OPTIONS = (
    "--strict",
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--follow-imports=silent",
)


def names_in(code: str) -> tuple[set[str], set[str]]:
    """Find the names that *code* reads, and those that it binds."""
    read: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    return read, bound


def program_of(chain: list[Block]) -> str:
    """Put the blocks together with the imports and definitions that they rely on.

    Names from ``<!-- given: … -->`` are anything, since no reader sees them.
    """
    code = "\n".join(block.code for block in chain)
    read, bound = names_in(code)
    given = {name for block in chain for name in names_in(block.notes.get("given", ""))[1]}
    missing = read - bound - set(dir(builtins))
    beginning = ["from typing import Any"]
    definitions = []
    for name in sorted(missing | {"Flask", "ConversationStore"}):
        if name in given and name not in FLASK:
            definitions.append(f"{name}: Any = ...")
        elif name in BEFORE:
            definitions.append(BEFORE[name])
        elif name in FLASK:
            beginning.append(f"from flask import {name}")
        elif name in flask_convstore.__all__:
            beginning.append(f"from flask_convstore import {name}")
        else:
            raise AssertionError(f"{chain[0]}: nothing is known of {name!r}")
    return "\n".join([*beginning, "", *definitions, "", code])


REVEALED = """
from dataclasses import dataclass
from typing import TypedDict

@dataclass
class Chat:
    topic: str

class Plain:
    pass

class Note(TypedDict):
    text: str

reveal_type(convstore.save_session("a", {"history": []}))  # Session
reveal_type(convstore.setdefault("a", []))  # ListSession
reveal_type(convstore.get_session("a"))  # Session | Any | None
reveal_type(save_session("a", {}))  # Session
reveal_type(convstore.mapping("chats", load=Chat)["a"])  # Chat
reveal_type(convstore.mapping("chats", load=Chat).get("a"))  # Chat | None
reveal_type(convstore.mapping("plain", load=Plain).copy())  # dict[Any, Plain]
reveal_type(convstore.mapping("notes", load=Note)["a"]["text"])  # str
reveal_type(convstore.mapping("lists", load=list[Chat])["a"])  # list[Chat]
reveal_type(convstore.mapping("numbers", load=int, dump=str)["a"])  # int
reveal_type(convstore.mapping("any", default=list)["a"])  # Any
reveal_type(convstore.sessions["a"])  # Any
"""
"""Types that a user sees, each with the expected one."""

PROGRAMS = {
    str(chain[0]).replace("/", "_").replace(".md:", "_").replace(".", "_"): chain
    for chain in CHAINS
    if chain[0].page in PAGES
}


def write_programs(folder: Path) -> list[Path]:
    """Write the program of each chain of blocks to *folder*."""
    paths = []
    for name, chain in PROGRAMS.items():
        path = folder / f"{name}.py"
        path.write_text(program_of(chain), "utf-8")
        paths.append(path)
    return paths


def checked(programs: list[Path]) -> subprocess.CompletedProcess[str]:
    """Run mypy over *programs*, with settings that are not ours, and a cache beside ours."""
    command = [sys.executable, "-m", "mypy", *USERS_OPTIONS, "--config-file", "", "--no-pretty"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "users"), *map(str, programs)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_code_of_pages_passes_mypy_strict_as_a_user_s_program(tmp_path: Path) -> None:
    found = checked(write_programs(tmp_path))
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_the_types_that_a_user_sees(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    beginning = "from flask import Flask\nfrom flask_convstore import ConversationStore, save_session\n"
    program.write_text(f"{beginning}convstore = ConversationStore(Flask('user'))\n{REVEALED}", "utf-8")
    shown = re.findall(r'Revealed type is "(.*)"', checked([program]).stdout)
    assert [re.sub(r"[\w.]+\.(\w+)", r"\1", one) for one in shown] == re.findall(r"  # (.*)", REVEALED)


if __name__ == "__main__":
    write_programs(Path(sys.argv[1]))
