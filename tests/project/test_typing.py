"""The types of the public surface: the Python code of pages passes mypy --strict and pyright as a user's program.

Readers write functions without annotations, as the pages do, so that only the bodies are checked.
``python -m tests.project.test_typing FOLDER`` writes the programs to a folder.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def imports_in(code: str) -> Iterator[tuple[str, str]]:
    """List the imports of *code*: the name that each one binds, and the line for it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                one = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
                yield alias.asname or alias.name.partition(".")[0], ast.unparse(one)


def program_of(chain: list[Block]) -> str:
    """Put the blocks together with the imports and definitions that they rely on.

    Names from ``<!-- given: … -->`` are anything, since no reader sees them.
    """
    code = "\n".join(block.code for block in chain)
    read, bound = names_in(code)
    notes = [block.notes.get("given", "") for block in chain]
    given = {name for note in notes for name in names_in(note)[1]}
    imports = dict(pair for note in notes for pair in imports_in(note))
    missing = read - bound - set(dir(builtins))
    beginning = ["from typing import Any"]
    definitions = []
    for name in sorted(missing | {"Flask", "ConversationStore"}):
        if name in imports:
            beginning.append(imports[name])
        elif name in given and name not in FLASK:
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


REVEALING = """
from flask import Flask
from flask_convstore import ConversationStore, save_session

convstore = ConversationStore(Flask("user"))
"""

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


def checked_by_pyright(folder: Path) -> list[dict[str, Any]]:
    """Run pyright over the programs in *folder*. It brings itself and node as wheels, and fetches nothing."""
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}), "utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder)]
    quiet = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # without a look at the registry for a newer version
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | quiet)
    assert found.stdout.startswith("{"), found.stdout + found.stderr
    told: list[dict[str, Any]] = json.loads(found.stdout)["generalDiagnostics"]
    return told


@pytest.mark.slow
def test_the_code_of_pages_passes_pyright_as_a_user_s_program(tmp_path: Path) -> None:
    programs = write_programs(tmp_path)
    assert len(programs) > 10
    errors = [told for told in checked_by_pyright(tmp_path) if told["severity"] == "error"]
    assert errors == []


@pytest.mark.slow
def test_pyright_finds_the_library_and_its_types(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"{REVEALING}{REVEALED}convstore.no_such_method()\n", "utf-8")
    told = checked_by_pyright(tmp_path)
    assert [one["rule"] for one in told if one["severity"] == "error"] == ["reportAttributeAccessIssue"]
    shown = [re.findall(r' is "(.*)"', one["message"])[0] for one in told if one["severity"] == "information"]
    assert shown == re.findall(r"  # (.*)", REVEALED)


@pytest.mark.slow
def test_the_code_of_pages_passes_mypy_strict_as_a_user_s_program(tmp_path: Path) -> None:
    found = checked(write_programs(tmp_path))
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
def test_the_types_that_a_user_sees(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"{REVEALING}{REVEALED}", "utf-8")
    shown = re.findall(r'Revealed type is "(.*)"', checked([program]).stdout)
    assert [re.sub(r"[\w.]+\.(\w+)", r"\1", one) for one in shown] == re.findall(r"  # (.*)", REVEALED)


if __name__ == "__main__":
    write_programs(Path(sys.argv[1]))
