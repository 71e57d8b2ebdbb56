"""Operator: a store of an app as an operator works on it, for commands and for the inspector."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask

from ..config import Settings, limits_of
from ..domain.types import ANY
from ..operations.access import Access, Backend
from ..stores.connect import patience_of
from ..stores.redis.calls import Durability
from ..stores.redis.store import RedisStore
from ..stores.redis.survey import forget_ended
from .bound import BoundStore
from .state import AppState

_MAPPING = "mapping:"


class Operator(BoundStore):
    """A store as an operator works on it: every session of every owner.

    Attributes:
        state: Settings, client, circuit and journal.
        has_app: The app's own code was loaded. Else only its server is known.
    """

    def __init__(self, state: AppState, *, has_app: bool) -> None:
        super().__init__(state.convstore, state.app, ANY)
        self.state = state
        self.has_app = has_app

    @property
    def app(self) -> Flask:
        """The application."""
        return self.state.app

    @property
    def settings(self) -> Settings:
        """The settings of the sessions."""
        return self.state.settings

    def places(self) -> Mapping[str, Access]:
        """List the parts of the store that are known, as the app reaches them, through the circuit and the journal."""
        return self._everywhere(ANY)

    def through_app(self, place: str) -> Access:
        """Give access to a part of the store as the app has it.

        Raises:
            LookupError: There is no such part.
        """
        if place.startswith(_MAPPING) and place not in self.places():
            self.state.convstore.mapping(place.removeprefix(_MAPPING))
        try:
            return self.places()[place]
        except KeyError:
            raise LookupError(f"there is no place {place!r}: name sessions, chats, or mapping:NAME") from None

    def namespace(self, place: str) -> str:
        """Name a part of the store as the journal does ("": the sessions)."""
        return next((known.name for known in self._namespaces.known() if known.place == place), "")

    def directly(self, place: str = "sessions") -> Access:
        """Give access to a part of the store on the server itself. While that is away nothing is put into the journal.

        Raises:
            LookupError: There is no such part.
        """
        backend = self.through_app(place).backend
        if self.state.client is None:
            return Access(backend, ANY)
        settings = backend.settings
        store = RedisStore(
            self.state.client,
            settings.prefix,
            limits_of(settings),
            patience_of(settings),
            Durability(settings.durability),
        )
        return Access(Backend(settings, store, self.state.server, name=backend.name), ANY)

    def forget_ended(self, session_id: str) -> None:
        """Remove what the server keeps of a deleted session, for scratch sessions."""
        if self.state.client is not None:
            forget_ended(self.state.client, self.settings.prefix, session_id)
