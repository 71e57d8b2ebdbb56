"""Flask takes a mapping of sessions as the dict that it stands for: ``return sessions``, ``jsonify(sessions)``.

``json.dumps`` and ``orjson.dumps`` take dicts only. Their error in a request gets a note with the cure.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from ..mapping.mapping import SessionMapping


def install(app: Flask) -> None:
    """Let views of *app* return mappings, and its JSON provider write them, unless the provider is the app's own."""
    make_response = app.make_response

    def of_mapping(answer: Any) -> Any:
        return make_response(_with_dict(answer) if isinstance(answer, (SessionMapping, tuple)) else answer)

    app.make_response = of_mapping  # type: ignore[method-assign,assignment]
    provider = app.json
    if not isinstance(provider, DefaultJSONProvider):
        return
    default = provider.default

    def with_mappings(value: Any) -> Any:
        return value.copy() if isinstance(value, SessionMapping) else default(value)

    provider.default = with_mappings


def _with_dict(answer: Any) -> Any:
    """Put a dict in the place of a mapping that a view returns, alone or with a status."""
    if isinstance(answer, SessionMapping):
        return answer.copy()
    return (answer[0].copy(), *answer[1:]) if answer and isinstance(answer[0], SessionMapping) else answer


def add_cure(error: Any) -> None:
    """Note the cure at an error that names a mapping as no value of JSON."""
    if isinstance(error, TypeError) and "SessionMapping" in str(error):
        error.add_note("A SessionMapping is a view of a store, and no dict. Write sessions.copy(), which is one.")
