"""Values: dataclasses that nobody changes, as mypy sees: seen to by Python, they would take three times as long to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def as_value(kind: type[_T]) -> type[_T]:
    """*kind* as a dataclass with slots, made by keywords. For what every call makes; other values are frozen by Python."""
    return dataclass(slots=True, kw_only=True)(kind)
