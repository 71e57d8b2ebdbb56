"""Module globals that hold mappings: a warning where one was replaced by a dict, as ``global chats`` and ``chats = {}`` do.

An assignment to a name tells nobody. So the names are looked at when a request begins, in the modules that have asked the
store for a mapping. A name that held a mapping at an earlier request, and holds a dict now, is told once. Names that hold
another mapping, as after a second call of an app factory, are no matter.
"""

from __future__ import annotations

import ast
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..mapping.mapping import SessionMapping

_log = logging.getLogger("flask_convstore")


class Replacement(NamedTuple):
    """An assignment in code of the app that puts another value in the place of a mapping.

    Attributes:
        module, line: The place of the assignment.
        name: The global.
    """

    module: str
    line: int
    name: str


class ModuleGlobals:
    """The globals of the modules that have asked one store for a mapping.

    Attributes:
        known: The globals by their identities.
    """

    def __init__(self) -> None:
        self.known: dict[int, dict[str, Any]] = {}
        self._new: list[dict[str, Any]] = []
        self._held: list[tuple[dict[str, Any], str]] = []

    def note(self, module: dict[str, Any]) -> None:
        """Note a module. Its names are looked up later, since a name is bound when the call has returned."""
        if id(module) not in self.known:
            self.known[id(module)] = module
            self._new.append(module)

    def check(self) -> None:
        """Find the names that hold mappings, and tell of those that hold a dict by now."""
        held, self._held = self._held, []
        for module, name in held:
            value = module.get(name)
            if isinstance(value, SessionMapping):
                self._held.append((module, name))
            elif isinstance(value, dict):
                _tell(module, name)
        while self._new:
            module = self._new.pop()
            self._held += [(module, name) for name, value in list(module.items()) if isinstance(value, SessionMapping)]

    def replacements(self) -> list[Replacement]:
        """Find, in the code of the modules, the functions that assign a global which holds a mapping. Nothing is run."""
        return [found for module in list(self.known.values()) for found in _replacements(module)]


def _replacements(module: dict[str, Any]) -> Iterator[Replacement]:
    held = {name for name, value in list(module.items()) if isinstance(value, SessionMapping)}
    tree: ast.AST = ast.Module([], [])
    with contextlib.suppress(OSError, SyntaxError, ValueError, KeyError):
        tree = ast.parse(Path(module["__file__"]).read_bytes())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
            for line, name in _assigned(function):
                if name in declared & held:
                    yield Replacement(str(module.get("__name__", "?")), line, name)


def _assigned(function: ast.AST) -> Iterator[tuple[int, str]]:
    """Give the names that a function assigns, with the lines."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def _tell(module: dict[str, Any], name: str) -> None:
    _log.warning(
        "the global %r of the module %s was a mapping of stored values, and is a dict of this process now. Nothing in it is "
        "stored. In place of the assignment write %s.clear(confirm=True) and %s.update(...), or del %s[key] for each key.",
        name,
        module.get("__name__", "?"),
        name,
        name,
        name,
    )
