"""Refusal of changes that a page of another site requests in the name of this browser's user (CSRF).

The rule does not ask by what the app knows its user. Browsers send cookies, passwords of HTTP and client certificates along
with the requests of any page, and an address goes with all of them.
"""

from __future__ import annotations

from collections.abc import Collection

from flask import Request

from ..errors import CrossOrigin

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
_OURS = ("same-origin", "none")
"""Values of ``Sec-Fetch-Site`` for a page of this origin, and for a request that the user alone has made."""


def may_come_from_page(request: Request) -> bool:
    """Tell whether a page in a browser may have requested a change. A browser tells the page's origin or its site."""
    if request.method in _SAFE_METHODS:
        return False
    return "HTTP_ORIGIN" in request.environ or "HTTP_SEC_FETCH_SITE" in request.environ


def check_site(request: Request, trusted: Collection[str]) -> None:
    """Refuse a change that a page of another origin requests, unless the origin is *trusted*.

    ``Sec-Fetch-Site`` decides where a browser sends it, since it is right behind any proxy too. Otherwise ``Origin`` does. A
    request without both comes from no browser of these years.

    Args:
        trusted: Origins as browsers send them. ``*`` trusts all.

    Raises:
        CrossOrigin: The request is refused. Nothing was written.
    """
    if not may_come_from_page(request):
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if "*" in trusted or (origin is not None and origin.lower() in trusted):
        return
    if site is not None:
        is_ours = site in _OURS
    else:
        is_ours = origin is None or origin.lower() == f"{request.scheme}://{request.host}".lower()
    if not is_ours:
        raise CrossOrigin(origin)
