"""Flask's JSON provider takes a mapping of sessions as the dict that it stands for: ``jsonify(convstore.sessions)``."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ..mapping.mapping import SessionMapping


def install(app: Flask) -> None:
    """Let *app* write mappings as JSON, unless it has a JSON provider of its own."""
    provider = app.json
    if not isinstance(provider, DefaultJSONProvider):
        return
    default = provider.default

    def with_mappings(value: Any) -> Any:
        return value.copy() if isinstance(value, SessionMapping) else default(value)

    provider.default = with_mappings
