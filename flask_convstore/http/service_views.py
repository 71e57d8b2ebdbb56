"""Views of the service itself: health, metrics, the routes as an OpenAPI document, and the browser's half."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources

from flask import Request, Response

from ..operations.access import Access
from .door import Door
from .request import query_of
from .response import answer
from .schemas import SCRIPT_QUERY


def health(request: Request, door: Door, access: Access) -> Response:
    """Tell whether sessions can be served."""
    found = door.health()
    return answer(found.public(), 200 if found.connected or found.can_start else 503)


def openapi(request: Request, door: Door, access: Access) -> Response:
    """Show the routes as an OpenAPI document."""
    from .openapi.document import document_text  # seldom asked for

    served = door.served((request.endpoint or "").rpartition(".")[0])
    text, etag = document_text(served, request.root_path or "/")
    response = Response(text, 200, {"Cache-Control": "no-cache"}, content_type="application/json")
    response.set_etag(etag)
    response.make_conditional(request)
    return response


def metrics(request: Request, door: Door, access: Access) -> Response:
    """Show the metrics of all workers, for Prometheus."""
    page, content_type = door.metrics()
    return Response(page, 200, content_type=content_type)


def script(request: Request, door: Door, access: Access) -> Response:
    """Give the browser's half, an ES module."""
    text, version = _script()
    is_this = query_of(request, SCRIPT_QUERY)["v"] == version
    kept = "public, max-age=31536000, immutable" if is_this else "no-cache"
    response = Response(text, 200, {"Cache-Control": kept}, mimetype="text/javascript")
    response.set_etag(version)
    response.make_conditional(request)
    return response


_FOR_PEOPLE = re.compile(
    r"^ *(?:/\*\*.*?\*/|//.*?|)\n|/\*\*.*?\*/ ?|^ +|(?<=[;{}]) // [^\n]*", re.MULTILINE | re.DOTALL
)
"""Comments, types, indentation, and empty lines: a quarter of the module, and nothing for a browser."""

_PRIVATE = re.compile(r"#\w+")
"""Names that only the module knows, so that short ones do as well."""


@cache
def _script() -> tuple[bytes, str]:
    source = resources.files("flask_convstore").joinpath("static/convstore.js").read_text("utf-8")
    short: dict[str, str] = {}
    named = _PRIVATE.sub(lambda name: short.setdefault(name[0], f"#_{len(short):x}"), _FOR_PEOPLE.sub("", source))
    text = named.encode()
    return text, hashlib.blake2b(text, digest_size=8).hexdigest()


def script_version() -> str:
    """Name the state of the module. It is part of its URL."""
    return _script()[1]
