"""Scopes: blocks with a unit of work of their own, inside a request or an app context."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from .late_writer import late_writer
from .unit_of_work import Unit


class _OpenScope(NamedTuple):
    """A scope's unit, the unit around it, and the scope around it."""

    unit: Unit
    around: Unit | None
    outer: _OpenScope | None


_innermost: ContextVar[_OpenScope | None] = ContextVar("flask_convstore_scope", default=None)

is_scoped = _innermost.get
"""Tell whether the running code may be in a scope: something true if so."""


@contextlib.contextmanager
def scoped(around: Unit, *, reads_anew: bool = False) -> Iterator[None]:
    """Open a unit for a block. Its changes are written at its end, unless it raises. *reads_anew* as the unit has it."""
    unit = Unit(lost=around.lost, reads_anew=reads_anew)
    scope = _OpenScope(unit, around, _innermost.get())
    _innermost.set(scope)
    try:
        yield
    except BaseException as error:
        unit.drop(f"their scope has raised {type(error).__name__}")
        raise
    finally:
        if _innermost.get() is scope:  # else it is closed as garbage, in another thread or within another scope
            _innermost.set(scope.outer)
        late_writer.end(unit)


def innermost(around: Unit) -> Unit:
    """Find the unit that the running code works in. *around* is the unit of its request or context."""
    scope = _innermost.get()
    if scope is None:
        return around
    is_within = scope.around is around and not scope.unit.is_over
    return scope.unit if is_within else units(around)[0]


def units(around: Unit | None) -> list[Unit]:
    """List the units of the running code, the innermost first. *around* is the unit of its request or context."""
    found, scope = [], _innermost.get()
    while scope and scope.around is around:
        if not scope.unit.is_over:  # it was closed as garbage
            found.append(scope.unit)
        scope = scope.outer
    return found + ([around] if around else [])


def leave_all() -> list[Unit]:
    """Leave all scopes, in a forked child. Returns their units."""
    found, scope = [], _innermost.get()
    while scope:
        found.append(scope.unit)
        scope = scope.outer
    _innermost.set(None)
    return found
