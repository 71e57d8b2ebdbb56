"""Pages from templates, in an environment of their own, so that nothing that an app does to its Jinja reaches them."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Response, url_for
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..domain.clock import now_ms
from . import wording

_FILTERS = (
    wording.bytes_in_words,
    wording.duration,
    wording.exact,
    wording.machine_time,
    wording.clock,
    wording.number,
    wording.plain,
    wording.shortened,
)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flask_convstore.inspector"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.globals.update(
        url_for=url_for, ago=wording.ago, until=wording.until, counted=wording.counted, hidden=wording.hidden
    )
    return environment


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Make the answer that a template gives. It knows the time as ``now``, in milliseconds since 1970."""
    text = _environment().get_template(template).render(now=now_ms(), **values)
    return Response(text, status, mimetype="text/html")
