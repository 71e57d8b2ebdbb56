"""The store that a command works on: that of the app, or one that is named by a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..app.bound import BoundStore
from ..app.current import KEY
from ..app.state import AppState
from ..config import Settings, limits_of
from ..domain.types import ANY
from ..operations.access import Access, Backend
from ..shortcuts import open_store
from ..stores.connect import patience_of
from ..stores.redis.calls import Durability
from ..stores.redis.store import RedisStore
from ..stores.redis.survey import forget_ended
from .group import CHOSEN, Chosen

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


def operator_of(ctx: click.Context) -> Operator:
    """Find the store that the options of the group and the app name.

    Raises:
        ConfigurationError: Settings are unknown or bad.
    """
    chosen: Chosen = ctx.meta.get(CHOSEN) or Chosen(None, None, None)
    info = ctx.find_object(ScriptInfo)
    if info is None or chosen.url is not None:
        if chosen.name is not None:
            raise click.UsageError("--name names a store of an app: leave out --url, and call `flask convstore`.")
        operator = _without_app(chosen)
        ctx.call_on_close(operator.close)
        return operator
    if chosen.prefix is not None:
        raise click.UsageError("--prefix goes with --url: an app has a prefix of its own.")
    if chosen.folder is not None:
        raise click.UsageError("--folder goes with --url: an app has an instance folder of its own.")
    app = info.load_app()
    ctx.with_resource(app.app_context())
    return Operator(_state_of(app, chosen.name), has_app=True)


def _without_app(chosen: Chosen) -> Operator:
    """Open the store of a URL, or that of the environment."""
    given: dict[str, Any] = {}
    if chosen.prefix is not None:
        given["prefix"] = chosen.prefix
    if chosen.folder is not None:
        given |= {"folder": chosen.folder, "fallback": "journal"}
    return Operator(open_store(chosen.url, **given)._state(), has_app=False)


def _state_of(app: Flask, name: str | None) -> AppState:
    states: dict[str, AppState] = app.extensions.get(KEY, {})
    if not states:
        raise click.UsageError("This app has no ConversationStore: call ConversationStore(app), or give --url.")
    if name is None and len(states) == 1:
        return next(iter(states.values()))
    wanted = "convstore" if name is None else name
    if wanted not in states:
        raise click.UsageError(f"This app has no store {wanted!r}: give --name, one of {', '.join(sorted(states))}.")
    return states[wanted]
