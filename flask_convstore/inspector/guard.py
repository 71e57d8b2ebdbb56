"""The guard of the inspector: who may see it, headers that keep a page to itself, and forms that no other page can send.

A form carries a token that is signed with the app's SECRET_KEY and names a random value, which a cookie of the same browser
has too. Neither needs a session of the app.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response, abort, current_app, g, request
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response as AnyResponse

from ..errors import ConfigurationError, ConvstoreError
from ..http.cross_site import check_site
from ..http.problems import UNCACHED

_OWN = ("style-src", "script-src", "img-src", "connect-src", "form-action")
_NONE = ("default-src", "frame-ancestors", "base-uri")

HEADERS = {
    "Content-Security-Policy": "; ".join([*(f"{one} 'none'" for one in _NONE), *(f"{one} 'self'" for one in _OWN)]),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    **UNCACHED,
}
"""Headers of every page."""

_ADMITTED = "_flask_convstore_inspectors"
_FORM_SECONDS = 3600
_ANSWERS = (bool, int, type(None))

_STALE = "It is too old, or was made for another browser. Open the session again. Nothing was deleted."

Check = Callable[[], Any]
"""The app's check: True or False, or a response to send instead, such as the way to a login. It may also abort."""


class Refused(ConvstoreError):
    """The inspector refuses a request. Nothing was written.

    Attributes:
        status, title: The answer's HTTP status, and its heading.
    """

    def __init__(self, status: int, title: str, reason: str) -> None:
        self.status = status
        self.title = title
        super().__init__(reason)


def refuse_strangers(access: Check, name: str) -> AnyResponse | None:
    """Ask the app whether this request may see the inspector *name*. Return the response that it wants sent instead.

    Raises:
        Forbidden: It may not.
        TypeError: The check gave something that is neither yes nor no, such as the ``("Forbidden", 403)`` of a view, which
            Python would take for a yes.
        CrossOrigin: A page of another site would change something.
    """
    answer = current_app.ensure_sync(access)()
    if isinstance(answer, AnyResponse):
        return answer
    if not isinstance(answer, _ANSWERS):
        kind = type(answer).__name__
        raise TypeError(f"the access check of the inspector gave a {kind}: return True, False, or a response")
    if not answer:
        abort(403)
    g.setdefault(_ADMITTED, set()).add(name)
    check_site(request, ())
    return None


def is_admitted(name: str) -> bool:
    """Tell whether the access check has let this request in. An error of the check itself is none of a page's."""
    return name in g.get(_ADMITTED, ())


def with_headers(response: Response) -> Response:
    """Give a page its headers. The files that belong to it may be kept, if they are asked about."""
    for name, value in HEADERS.items():
        if name == "Cache-Control" and (request.endpoint or "").endswith(".static"):
            continue
        response.headers[name] = value
    return response


class Forms:
    """The forms of one inspector, which are safe from other pages.

    Args:
        name: The name of its blueprint.
    """

    def __init__(self, name: str) -> None:
        self._cookie = f"{name}_form"
        self._salt = f"flask-convstore.{name}"

    def make(self, about: Sequence[str]) -> tuple[str, str]:
        """Make the token of a form *about* something, and the value of the cookie that goes with it.

        Raises:
            ConfigurationError: The app has no SECRET_KEY.
        """
        value = request.cookies.get(self._cookie) or secrets.token_urlsafe(24)
        return self._signer().dumps(["form", value, *about]), value

    def give(self, response: Response, value: str, path: str) -> Response:
        """Let *response* bring the cookie, for the pages below *path*."""
        response.set_cookie(self._cookie, value, path=path, secure=request.is_secure, httponly=True, samesite="Strict")
        return response

    def check(self, token: str, about: Sequence[str]) -> None:
        """Check the token of a form that was sent.

        Raises:
            Refused: It is too old, about something else, or of another browser.
            ConfigurationError: The app has no SECRET_KEY.
        """
        found, cookie = self._read(token), request.cookies.get(self._cookie, "")
        if not cookie or found != ["form", cookie, *about]:
            raise Refused(403, "This form is not valid", _STALE)

    def note(self, *words: str) -> str:
        """Sign a notice for the next page."""
        return self._signer().dumps(["notice", *words])

    def noted(self, token: str) -> list[str]:
        """Read a notice that was signed in the last hour. Nothing, if this is none."""
        kind, *words = self._read(token) or [""]
        return words if kind == "notice" else []

    def _read(self, token: str) -> list[str] | None:
        try:
            found = self._signer().loads(token, max_age=_FORM_SECONDS)
        except BadData:
            return None
        return found if isinstance(found, list) else None

    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(_keys(current_app), salt=self._salt)


def has_key(app: Flask) -> bool:
    """Tell whether forms can be signed."""
    return bool(app.secret_key)


def _keys(app: Flask) -> list[Any]:
    if not app.secret_key:
        raise ConfigurationError(["the inspector signs its forms: set SECRET_KEY. Nothing was deleted"])
    return [*(app.config.get("SECRET_KEY_FALLBACKS") or ()), app.secret_key]
