"""Owners for browsers without a login: a random name in a signed cookie."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from flask import Flask, Response, current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer

from ..domain.clock import wall_seconds
from ..errors import ConfigurationError, OwnerRequired

_LIFETIME_SECONDS = 365 * 24 * 3600
_RENEWED_AFTER_SECONDS = 30 * 24 * 3600
"""A cookie lives for a year. After a month the browser gets a new one with the same owner."""


TOO_LATE = (
    "The response has left without the cookie of a new browser, so that nobody could find the session again: "
    "use the store, or convstore.caller(), before the response begins. Nothing was written."
)


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
        self._has_left = f"_flask_convstore_{name}_has_left"

    def current(self) -> str:
        """Find the owner of the current request in its cookie, or make a new one. The response brings the new cookie.

        Raises:
            ConfigurationError: The app has no SECRET_KEY.
            OwnerRequired: The response has left without a cookie. Nobody would find again what a new owner stores.
        """
        found: _Found | None = getattr(request, self._attribute, None)
        if found is None:
            found = self._read()
            if found is None and getattr(request, self._has_left, False):
                raise OwnerRequired(TOO_LATE)
            found = found or _Found(f"anonymous:{uuid.uuid4()}", True, True)
            setattr(request, self._attribute, found)
        return found.owner

    def newcomers(self) -> str | None:
        """Name the address of a browser that has no cookie yet, as no owner can be named. None: it has one, or is none."""
        running = request._get_current_object()  # type: ignore[attr-defined]
        found: _Found | None = getattr(running, self._attribute, None)
        return f"\n{running.remote_addr}" if found and found.is_new else None

    def write(self, response: Response) -> Response:
        """Add the cookie to *response*, if one is due. From then on the request gets no new owner."""
        setattr(request, self._has_left, True)
        found: _Found | None = getattr(request, self._attribute, None)
        if found:
            response.vary.add("Cookie")
        if found and found.is_due:
            response.set_cookie(
                self._cookie,
                str(self._serializer().dumps(found.owner)),
                max_age=_LIFETIME_SECONDS,
                httponly=True,
                **_attributes(current_app),
            )
        return response

    def _read(self) -> _Found | None:
        cookie, serializer = request.cookies.get(self._cookie), self._serializer()
        if cookie is None:
            return None
        found = _loaded(serializer, cookie)
        fallbacks = current_app.config.get("SECRET_KEY_FALLBACKS")
        if found is None and fallbacks:
            found = _loaded(self._signer([*fallbacks]), cookie)
            return found and found._replace(is_due=True)  # signed with the newest key from now on
        return found

    def _serializer(self) -> URLSafeTimedSerializer:
        return self._signer([check_secret_key(current_app)])

    def _signer(self, keys: list[Any]) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(keys, salt=f"flask-convstore.{self._cookie}")


def check_secret_key(app: Flask) -> str | bytes:
    """Get the key that signs the cookie.

    Raises:
        ConfigurationError: The app has none.
    """
    if not app.secret_key:
        raise ConfigurationError(["CONVSTORE_ANONYMOUS_OWNER signs a cookie: set SECRET_KEY"])
    return app.secret_key


def _loaded(serializer: URLSafeTimedSerializer, cookie: str) -> _Found | None:
    """Read the owner in a *cookie*. None if it was forged or is too old."""
    try:
        owner, given = serializer.loads(cookie, max_age=_LIFETIME_SECONDS, return_timestamp=True)
    except BadData:
        return None
    if not isinstance(owner, str):
        return None
    return _Found(owner, is_due=given.timestamp() + _RENEWED_AFTER_SECONDS < wall_seconds())


def _attributes(app: Flask) -> dict[str, Any]:
    """Choose the attributes of the cookie as Flask chooses those of its session."""
    session = app.session_interface
    return {
        "path": session.get_cookie_path(app),
        "domain": session.get_cookie_domain(app),
        "secure": session.get_cookie_secure(app) or request.is_secure,
        "samesite": session.get_cookie_samesite(app) or "Lax",
        "partitioned": session.get_cookie_partitioned(app),
    }
