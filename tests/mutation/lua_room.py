"""Mutants of the scripts: small changes to a line of Lua, and on each the tests that run a script which has it.

A server of its own process keeps the tests imported, and forks for each mutant: ``python -m tests.mutation.lua_room`` in a
copy of the checkout.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processes import end_all_in
from .findings import Mutant
from .rooms import LUA, Room, sampled

_FOLDER = Path("flask_convstore/stores/redis/lua")
_CODE = re.compile(r'--\[\[.*?\]\]|--[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)
_OPERATORS = [
    (r"<=", ("<", ">=")),
    (r">=", (">", "<=")),
    (r"<(?!=)", ("<=", ">")),
    (r"(?<!\.)>(?!=)", (">=", "<")),
    (r"==", ("~=",)),
    (r"~=", ("==",)),
    (r"\band\b", ("or",)),
    (r"\bor\b", ("and",)),
    (r"\bnot ", ("",)),
    (r" \+ (?=1\b)", (" + 0 * ", " - ")),
    (r" - (?=1\b)", (" - 0 * ", " + ")),
    (r" \+ (?!1\b)", (" - ",)),
    (r" - (?!1\b)", (" + ",)),
    (r"math\.max", ("math.min",)),
    (r"math\.min", ("math.max",)),
    (r"\btrue\b", ("false",)),
    (r"\bfalse\b", ("true",)),
    (r"(?<=[=(,] )0(?=[,)} \n])", ("1",)),
    (r"^[ ]*redis\.call\([^\n]*(?:\n +[^\n]+)*?\)$", ("",)),
    (r"^[ ]*return [^\n]*$", ("",)),
]
_PAUSE = 0.05


def mutants(room: Room, copy: Path, sample: int, seed: int, environment: dict[str, str]) -> tuple[list[Mutant], int]:
    """The fates of *sample* changes to the scripts (0: of all) in a *copy* of the checkout, and the number of all."""
    there = [(file.name, *change) for file in sorted((copy / _FOLDER).glob("*.lua")) for change in changes(file)]
    tried = sampled(there, sample, seed)
    command = [sys.executable, "-m", "tests.mutation.lua_room"]
    texts = json.dumps([[name, text] for name, text, _, _ in tried])
    subprocess.run(command, cwd=copy, env=environment, check=True, input=texts, text=True, stdout=sys.stderr)
    fates = json.loads((copy / "fates.json").read_text("utf-8"))
    return [Mutant(name, old, new, fate) for (name, _, old, new), fate in zip(tried, fates, strict=True)], len(there)


def changes(file: Path) -> Iterator[tuple[str, str, str]]:
    """Each change of a script: its whole text, the line before and after."""
    text = file.read_text("utf-8")
    # Comments and texts stay as they are, and where they are.
    code = _CODE.sub(lambda found: re.sub(r"[^\n]", "#", found[0]), text)
    for pattern, replacements in _OPERATORS:
        for found in re.finditer(pattern, code, re.MULTILINE):
            start, end = found.span()
            first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
            for new in replacements:
                changed = text[first:start] + new + text[end:last]
                yield text[:start] + new + text[end:], " ".join(text[first:last].split()), " ".join(changed.split())


# ---- in the copy


def main() -> None:
    given = json.load(sys.stdin)
    tests_of, seconds = _learned()
    scripts_of = _including()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        _pytest(["--collect-only", *LUA.files])  # forks have the tests imported
    fates = []
    for number, (name, text) in enumerate(given, 1):
        tests = {test for script in scripts_of[name] for test in tests_of[script]}
        path = _FOLDER / name
        before = path.read_text("utf-8")
        path.write_text(text, "utf-8")
        try:
            ordered = sorted(tests, key=seconds.__getitem__)
            fates.append(_fate(ordered, 10 + 4 * sum(seconds[test] for test in ordered)))
        finally:
            path.write_text(before, "utf-8")
        print(f"{number}/{len(given)} {name} {fates[-1]}", flush=True)
    Path("fates.json").write_text(json.dumps(fates), "utf-8")


def _pytest(arguments: list[str], *plugins: Any) -> int:
    import pytest

    common = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=1", "--tb=no"]
    return int(pytest.main([*common, *arguments], plugins=plugins))


def _learned() -> tuple[dict[str, set[str]], dict[str, float]]:
    """The tests that run each script, and the seconds of each."""
    pid = os.fork()
    if not pid:
        recorder = _Recorder()
        failed = _pytest(["-k", LUA.only, *LUA.files], recorder)
        Path("learned.json").write_text(json.dumps([recorder.scripts, recorder.seconds]), "utf-8")
        os._exit(failed)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit("the tests fail without a mutant")
    scripts, seconds = json.loads(Path("learned.json").read_text("utf-8"))
    tests_of = defaultdict(set)
    for test, names in scripts.items():
        for name in names:
            tests_of[name].add(test)
    return tests_of, seconds


class _Recorder:
    """Sees which scripts a test asks for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.scripts: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        from flask_convstore.stores.redis import scripts

        def noted(known: scripts.Scripts, name: str) -> scripts.Script:
            self.asked.add(name)
            return dict.__getitem__(known, name)

        scripts.Scripts.__getitem__ = noted  # type: ignore[method-assign,assignment]

    def pytest_runtest_setup(self) -> None:
        self.asked.clear()

    def pytest_runtest_teardown(self, item: Any) -> None:
        self.scripts[item.nodeid] = sorted(self.asked)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def _including() -> dict[str, set[str]]:
    """The scripts that have each file in them."""
    included = {path.name: re.findall(r"--#include (\S+)", path.read_text("utf-8")) for path in _FOLDER.glob("*.lua")}

    def within(name: str) -> set[str]:
        return {name}.union(*map(within, included[name]))

    scripts = defaultdict(set)
    for name in included:
        for part in within(name):
            scripts[part].add(name.removesuffix(".lua"))
    return scripts


def _fate(tests: list[str], seconds: float) -> str:
    """The verdict of those tests on the scripts as they are now."""
    pid = os.fork()
    if not pid:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        from flask_convstore.stores.redis import scripts

        scripts.text_of.cache_clear()
        os._exit(_pytest(tests) if tests else 0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return "survived" if status == 0 else "killed"
        time.sleep(_PAUSE)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    end_all_in(Path(tempfile.gettempdir()))  # its server may loop
    return "timed out"


if __name__ == "__main__":
    main()
