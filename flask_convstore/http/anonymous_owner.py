"""Owners for browsers without a login: a random name in a signed cookie."""

from __future__ import annotations

import time
import uuid
from typing import NamedTuple

from flask import Flask, Response, current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer

from ..errors import ConfigurationError

_LIFETIME_SECONDS = 365 * 24 * 3600
_RENEWED_AFTER_SECONDS = 30 * 24 * 3600
"""A cookie lives for a year. After a month the browser gets a new one with the same owner."""


class _Found(NamedTuple):
    """Owner of a request.

    Attributes:
        is_due: The response has to bring the cookie.
    """

    owner: str
    is_due: bool


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
            found = self._read() or _Found(f"anonymous:{uuid.uuid4()}", True)
            setattr(request, self._attribute, found)
        return found.owner

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
