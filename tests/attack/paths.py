"""Paths that try to reach another session, another route, or a file: encoded, dotted, doubled, over-long."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..service import OwnedService

_PARTS = (
    "..",
    ".",
    "%2e%2e",
    "%2f",
    "%5c",
    "%00",
    "%0d%0aSet-Cookie:a=b",
    "%25",
    "%ff",
    "%u002e",
    "*",
    "{s}",
    "s:history",
    "s%3Ahistory",
    "s}:history",
    "owner:{ada}",
    "alias:{ada:x}",
    ";",
    "s;x",
    "s%20",
    "%20s",
    "S",
    "s%E2%80%8B",
    "x" * 300,
    "%F0%9F%8E%89" * 60,
    "health",
    "export",
    "import",
    "openapi.json",
    "events",
)
_BEHIND = (
    "",
    "/",
    "/messages",
    "/messages/1",
    "/messages/-1",
    "/messages/1e1",
    "/messages/%31",
    "/fork",
    "/../s",
    "//s",
)
_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "TRACE", "s")
_SECRET = "only for Ada"


def paths() -> Iterator[str]:
    """Make paths below the prefix."""
    for part, behind in itertools.product(_PARTS, _BEHIND):
        yield f"/{part}{behind}"
    for first, second in itertools.product(_PARTS, repeat=2):
        yield f"/{first}/{second}"


def attack(service: OwnedService, every: int = 1) -> list[str]:
    """Ask for paths with methods. Nothing of Ada's may be told or changed, and nothing may fail.

    Args:
        every: Take each so many of all pairs.
    """
    with service.app.app_context():
        service.convstore.save_session("s", {"a": _SECRET, "history": [_SECRET]}, owner="ada")
    failures = []
    for method, path in itertools.islice(itertools.product(_METHODS, paths()), 0, None, every):
        response = service.call("mallory", method, path, json={"content": "x"} if method in ("POST", "PATCH") else None)
        if response.status_code >= 500 and response.status_code != 501:
            failures.append(f"{method} {path}: {response.status_code}")
        text = "" if response.mimetype == "text/event-stream" else response.text
        response.close()  # a stream of what happens never ends
        if _SECRET in text or "Set-Cookie" in response.headers:
            failures.append(f"{method} {path}: tells of another's session")
    with service.app.app_context():
        kept = service.convstore.get_session("s", owner="ada")
    if kept != {"a": _SECRET, "history": [_SECRET]}:
        failures.append(f"Ada's session was changed: {kept}")
    return failures


def run() -> list[str]:
    """Try every path on an app in memory."""
    failures = attack(OwnedService("memory://"))
    print(f"{len(list(paths())) * len(_METHODS):,} requests")
    return failures
