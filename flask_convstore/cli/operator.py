"""The store that a command works on: that of the app, or one that is named by a URL."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask
from flask.cli import ScriptInfo

from ..app.current import KEY
from ..app.operator import Operator
from ..app.state import AppState
from ..shortcuts import open_store
from .group import CHOSEN, Chosen


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
