"""Owners for browsers without a login: a random name in a signed cookie."""

from __future__ import annotations

import time
import uuid
from typing import NamedTuple
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer

from ..errors import ConfigurationError, CrossOrigin

_LIFETIME_SECONDS = 365 * 24 * 3600
_RENEWED_AFTER_SECONDS = 30 * 24 * 3600
"""A cookie lives for a year. After a month the browser gets a new one with the same owner."""

_UNASKED = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Media types that a form or a script of another site may send anywhere (Fetch, CORS-safelisted request-header). Or none."""


class _Found(NamedTuple):
    """Owner of a request.

    Attributes:
        is_due: The response has to bring the cookie.
        is_new: The owner was made for this request.
    """

    owner: str
    is_due: bool
    is_new: bool = False


class AnonymousOwners:
    """Anonymous owners of one store.

    Args:
        name: Name of the store. The cookie is ``<name>_owner``.
    """

    def __init__(self, name: str) -> None:
        self._cookie = f"{name}_owner"
        self._attribute = f"_flask_convstore_{name}_owner"

    def current(self) -> str:
        """Find the owner of the current request in its cookie, or make a new one. The response brings the new cookie.

        Raises:
            ConfigurationError: The app has no SECRET_KEY.
        """
        found: _Found | None = getattr(request, self._attribute, None)
        if found is None:
            found = self._read() or _Found(f"anonymous:{uuid.uuid4()}", True, True)
            setattr(request, self._attribute, found)
        return found.owner

    def newcomers(self) -> str | None:
        """Name the address of a browser that has no cookie yet, as no owner can be named. None: it has one, or is none."""
        found: _Found | None = getattr(request, self._attribute, None)
        return f"\n{request.remote_addr}" if found and found.is_new else None

    def write(self, response: Response) -> Response:
        """Add the cookie to *response*, if one is due."""
        found: _Found | None = getattr(request, self._attribute, None)
        if found:
            response.vary.add("Cookie")
        if found and found.is_due:
            response.set_cookie(
                self._cookie,
                str(self._serializer().dumps(found.owner)),
                max_age=_LIFETIME_SECONDS,
                path=current_app.config["SESSION_COOKIE_PATH"] or current_app.config["APPLICATION_ROOT"],
                secure=request.is_secure,
                httponly=True,
                samesite="Lax",
            )
        return response

    def check_origin(self) -> None:
        """Refuse a change that a page of another site requests, with the cookies that the browser sends along.

        A cookie of the host's counts too, where a browser sends the request without asking the host first (CORS).

        Raises:
            CrossOrigin: The request would change something, and comes from a page of another origin.
        """
        current = request._get_current_object()  # type: ignore[attr-defined]
        if current.method in ("GET", "HEAD", "OPTIONS") or "Cookie" not in current.headers:
            return
        is_unasked = current.method == "POST" and current.mimetype in _UNASKED
        if not (is_unasked or self._cookie in current.cookies):
            return
        origin = current.headers.get("Origin")
        is_ours = origin is None or urlsplit(origin)[:2] == urlsplit(current.host_url)[:2]
        if not is_ours or current.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise CrossOrigin

    def _read(self) -> _Found | None:
        cookie, serializer = request.cookies.get(self._cookie), self._serializer()
        if cookie is None:
            return None
        try:
            owner, given = serializer.loads(cookie, max_age=_LIFETIME_SECONDS, return_timestamp=True)
        except BadData:
            return None
        if not isinstance(owner, str):
            return None
        return _Found(owner, is_due=given.timestamp() + _RENEWED_AFTER_SECONDS < time.time())

    def _serializer(self) -> URLSafeTimedSerializer:
        app: Flask = current_app
        if not app.secret_key:
            raise ConfigurationError(["CONVSTORE_ANONYMOUS_OWNER signs a cookie: set SECRET_KEY"])
        keys = [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
        return URLSafeTimedSerializer(keys, salt=f"flask-convstore.{self._cookie}")
