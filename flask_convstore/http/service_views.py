"""Views of the service itself: health, and the routes as an OpenAPI document."""

from __future__ import annotations

from flask import Response, request

from ..operations.access import Access
from .door import Door
from .response import answer


def health(door: Door, access: Access) -> Response:
    """Tell whether sessions can be served."""
    found = door.health()
    return answer(found.public(), 200 if found.connected or found.can_start else 503)


def openapi(door: Door, access: Access) -> Response:
    """Show the routes as an OpenAPI document."""
    from .openapi.document import document_text  # seldom asked for

    served = door.served((request.endpoint or "").rpartition(".")[0])
    text, etag = document_text(served, request.root_path or "/")
    response = Response(text, 200, {"Cache-Control": "no-cache"}, content_type="application/json")
    response.set_etag(etag)
    response.make_conditional(request)
    return response
