"""Mutants of a Python room: mutmut makes them and runs on each the tests that reach its function, the fastest first."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .findings import Mutant
from .rooms import Room, sampled

_SETTINGS = """
[mutmut]
source_paths = flask_convstore
only_mutate = {path}
also_copy =
    flask_convstore
    examples
    benchmarks
    docs
    README.md
    CHANGELOG.md
    mkdocs.yml
pytest_add_cli_args_test_selection =
    {files}
pytest_add_cli_args =
    -k
    {only}
    -p
    no:cacheprovider
    --hypothesis-seed=1
timeout_multiplier = 4
timeout_constant = 3
"""
_FATES = {"no tests": "survived", "timeout": "timed out", "segfault": "killed"}


def mutants(room: Room, copy: Path, sample: int, seed: int, environment: dict[str, str]) -> tuple[list[Mutant], int]:
    """The fates of *sample* mutants of *room* (0: of all) in a *copy* of the checkout, and the number of all mutants."""
    with (copy / "setup.cfg").open("a") as settings:
        settings.write(_SETTINGS.format(path=room.path, files="\n    ".join(room.files), only=room.only))
    with contextlib.chdir(copy):  # mutmut finds its settings there
        names = sorted(_names(room))
        tried = sampled(names, sample, seed)
        command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", "1", *tried]
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
        return list(_outcomes(room, set(tried))), len(names)


def _names(room: Room) -> Iterator[str]:
    """The mutants there are, but for those that only word a message in another way."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    path = Path(room.path)
    mutated = mutate_file_contents(str(path), path.read_text("utf-8"))
    meant = meanings(mutated.code)
    for name in mutated.mutant_names:
        if meant[name] != meant[re.sub(r"\d+$", "orig", name)]:
            yield get_mutant_name(path, name)


def meanings(code: str) -> dict[str, str]:
    """The code of each function, without its texts of several words."""
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    meant = {}
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\w,? \w", node.value):
                node.value = "…"
        meant[function.name] = "\n".join(map(ast.dump, function.body))
    return meant


def _outcomes(room: Room, tried: set[str]) -> Iterator[Mutant]:
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    path = Path(room.path)
    found = json.loads(Path(f"mutants/{path}.meta").read_text("utf-8"))
    for name in sorted(tried):
        status = status_by_exit_code[found["exit_code_by_key"][name]]
        lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
        before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        yield Mutant(_place(name), before, after, _FATES.get(status, status))


def _place(name: str) -> str:
    """``operations.turns.xǁTurnǁreply__mutmut_1`` is in ``operations.turns.Turn.reply``."""
    room, _, function = name.rpartition("__mutmut_")[0].removeprefix("flask_convstore.").rpartition(".")
    return f"{room}.{function.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"
