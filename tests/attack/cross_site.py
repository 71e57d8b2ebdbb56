"""Changes that pages of other sites request, against every way in which an app may know its user.

``findings()`` needs no server. ``tests/http/test_cross_site.py`` runs a part of it.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_convstore import ConversationStore
from flask_convstore.http.routes import ROUTES, Route

from ..service import path_of

Headers = dict[str, str]
TRUSTED = "https://app.example"
HOST = "localhost"


class Identity(NamedTuple):
    """A way in which an app knows its user.

    Attributes:
        owner: The owner loader.
        headers, environ: Parts of a request that a browser, a proxy or the network add by themselves.
    """

    owner: Callable[[], str | None] | None
    headers: Headers
    environ: dict[str, Any]


IDENTITIES = {
    "a login's cookie": Identity(lambda: request.cookies.get("login"), {"Cookie": "login=ada"}, {}),
    "HTTP Basic": Identity(
        lambda: request.authorization.username if request.authorization else None,
        {"Authorization": f"Basic {base64.b64encode(b'ada:secret').decode()}"},
        {},
    ),
    "a client certificate": Identity(lambda: request.environ.get("SSL_CLIENT_S_DN"), {}, {"SSL_CLIENT_S_DN": "CN=ada"}),
    "a header of the proxy": Identity(lambda: request.headers.get("X-Remote-User"), {"X-Remote-User": "ada"}, {}),
    "an address": Identity(lambda: request.remote_addr, {}, {"REMOTE_ADDR": "10.0.0.7"}),
    "nothing": Identity(None, {}, {}),
}

_ORIGINS = (
    "http://evil.example",
    "null",
    "",
    "http://",
    "http://[",
    f"http://{HOST}.evil.example",
    f"http://evil.example/{HOST}",
    f"http://{HOST}:8000",
    f"https://{HOST}",
    f"http://{HOST}@evil.example",
    f"http://{HOST}, http://evil.example",
    f"{TRUSTED}.evil.example",
    f"{TRUSTED}:8443",
    "http://app.example",
)
EVIL: list[Headers] = [
    *({"Origin": origin} for origin in _ORIGINS),
    *({"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "", "same-origin, cross-site", "?")),
    *({"Origin": origin, "Sec-Fetch-Site": "cross-site"} for origin in _ORIGINS),
    {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"},
    {"Origin": f"http://api.{HOST}", "Sec-Fetch-Site": "same-site"},
    {"Referer": f"http://{HOST}/", "Sec-Fetch-Site": "cross-site"},
]
"""Headers of requests of foreign pages, and others that may be mistaken for those of the app's own."""

OURS: list[Headers] = [
    {},  # no browser
    {"Origin": f"http://{HOST}"},
    {"Origin": f"HTTP://{HOST.upper()}"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": f"https://{HOST}", "Sec-Fetch-Site": "same-origin"},  # behind a proxy that ends TLS
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},  # a page with Referrer-Policy: no-referrer
    {"Origin": TRUSTED},
    {"Origin": TRUSTED, "Sec-Fetch-Site": "cross-site"},
    {"Origin": TRUSTED, "Sec-Fetch-Site": "same-site"},
]
"""The same for the app's own pages, for pages that the app trusts, and for programs."""

TYPES = (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json")


def create_app(identity: Identity, *, is_proxied: bool = False) -> tuple[Flask, ConversationStore]:
    app = Flask("cross site")
    app.config.update(CONVSTORE_URL="memory://", CONVSTORE_TRUSTED_ORIGINS=[TRUSTED], CONVSTORE_FALLBACK="none")
    if identity.owner is None:
        app.config.update(CONVSTORE_ANONYMOUS_OWNER=True, SECRET_KEY="of no use")
    convstore = ConversationStore(app)
    if identity.owner:
        convstore.owner_loader(identity.owner)
    app.register_blueprint(convstore.blueprint)
    if is_proxied:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return app, convstore


def findings(every: int = 1) -> list[str]:
    """List the requests of other sites that were let in, and the app's own that were not.

    All of it is 27,000 requests in half a minute. *every* n-th of those from other sites is sent.
    """
    return [found for name in IDENTITIES for found in (*_let_in(name, every), *_kept_out(name))]


def run() -> list[str]:
    """Send all of it, against every way to know a user."""
    failures = findings()
    print(f"{len(IDENTITIES)} ways to know a user, {len(EVIL)} kinds of foreign pages, {len(OURS)} of the app's own")
    return failures


def _let_in(name: str, every: int) -> Iterator[str]:
    app, _ = create_app(IDENTITIES[name])
    identity = IDENTITIES[name]
    client = _browser(app, identity)
    session_id = _start(client, identity)
    before = _seen(client, identity, session_id)
    bodies = [(kind, data) for kind in TYPES for data in ((None, b"{}", b'{"content": "x", "="}') if kind else (None,))]
    for route, headers, (kind, data) in itertools.islice(itertools.product(_changing(), EVIL, bodies), 0, None, every):
        answer = _send(client, identity, route, session_id, headers, data=data, content_type=kind)
        if answer.status_code != 403 or answer.json["written"] is not False:
            yield f"{name}: {route.method} {route.rule} {headers} {kind}: {answer.status_code}"
    if _seen(client, identity, session_id) != before:
        yield f"{name}: a foreign page has changed something"


def _kept_out(name: str) -> Iterator[str]:
    identity = IDENTITIES[name]
    for headers, is_proxied in itertools.product(OURS, (False, True)):
        app, _ = create_app(identity, is_proxied=is_proxied)
        client = _browser(app, identity)
        session_id = _start(client, identity)
        for route in _changing():
            sent = {**headers, **({"X-Forwarded-Proto": "http"} if is_proxied else {})}
            answer = _send(client, identity, route, session_id, sent)
            if answer.status_code == 403:
                yield f"{name}: {route.method} {route.rule} {sent}: {answer.status_code}"


def _changing() -> list[Route]:
    return [route for route in ROUTES if route.method != "GET"]


def _browser(app: Flask, identity: Identity) -> Any:
    return app.test_client(use_cookies=identity.owner is None)  # a jar would take the place of the header


def _start(client: Any, identity: Identity) -> str:
    answer = client.post("/sessions", json={}, headers=identity.headers, environ_overrides=identity.environ)
    session_id: str = answer.json["session_id"]
    return session_id


def _seen(client: Any, identity: Identity, session_id: str) -> Any:
    options = {"headers": identity.headers, "environ_overrides": identity.environ}
    listed = [found["session_id"] for found in client.get("/sessions", **options).json["sessions"]]
    return listed, client.get(f"/sessions/{session_id}", **options).json.get("version")


def _send(client: Any, identity: Identity, route: Route, session_id: str, headers: Headers, **sent: Any) -> Any:
    return client.open(
        path_of(route.rule, session_id),
        method=route.method,
        headers={**identity.headers, **headers},
        environ_overrides=identity.environ,
        **sent,
    )
