"""Door: everything that the views of one store are handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..config import Settings
from ..domain.results import Health
from ..domain.types import Owner, Scope
from ..operations.access import Access
from ..operations.replies import Replier


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The part of an app that serves one store.

    Attributes:
        name: Name that the blueprint is registered with.
        rules: Path and endpoint of each rule of the blueprint, as werkzeug has them.
        has_owners: Requests may have an owner.
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    settings: Settings = field(repr=False)
    has_owners: bool


class Door(NamedTuple):
    """Everything that the views of one store are handed.

    Attributes:
        settings: Finds the settings.
        access: Finds settings and store, and resolves the owner.
        replier: Gives the handler of messages, if the app has one.
        served: Tells what the app serves, by the name that the blueprint is registered with.
        health: Asks the store how it is.
        metrics: Makes the page of metrics, and names its media type.
    """

    settings: Callable[[], Settings]
    access: Callable[[Owner | Scope], Access]
    replier: Callable[[], Replier | None]
    served: Callable[[str], Served]
    health: Callable[[], Health]
    metrics: Callable[[], tuple[bytes, str]]
