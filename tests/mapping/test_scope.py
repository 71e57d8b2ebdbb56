"""A scope that an exception cut short is closed when garbage is collected, at any moment."""

from __future__ import annotations

from typing import Any

from flask_convstore.mapping.scope import scoped, units
from flask_convstore.mapping.unit_of_work import Unit


def around() -> Unit:
    return Unit()


def test_garbage_ends_no_other_scope() -> None:
    unit = around()
    left: Any = scoped(unit)
    next(left.gen)
    with scoped(unit):
        (mine, *_) = units(unit)
        left.gen.close()
        assert units(unit) == [mine, unit]
    assert units(unit) == [unit]


def test_a_scope_within_one_that_was_cut_short_ends() -> None:
    unit = around()
    left: Any = scoped(unit)
    next(left.gen)
    with scoped(unit):
        pass
    left.gen.close()
    assert units(unit) == [unit]
