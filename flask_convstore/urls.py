"""``CONVSTORE_URL``: the schemes, the problems of a URL, and a URL as a log shows it. ``stores.connect`` connects."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "embedded", "memory")
_ENCODED = (
    "percent-encode such a character in a user or password: / is %2F, # is %23, ? is %3F, [ is %5B, ] is %5D, @ is %40"
)


def as_redis(url: str) -> str:
    """Write ``valkey://`` as ``redis://``, ``valkeys://`` as ``rediss://``, and so for Sentinels and a Cluster."""
    return re.sub(r"^valkey(?=s?(\+\w+)?://)", "redis", url)


_PARTS = re.compile(r"(?:([^/?#]*)@)?([^/?#@]*)(/?[^?#@]*)((?:\?.*)?)", re.DOTALL)
"""User and password, hosts, path and query of a URL behind its scheme."""


def with_credentials(url: str, user: str, password: str, database: str) -> str:
    """Add to *url* what it lacks of a user, a password and a database. Where it names no server, it stays as it is."""
    scheme, _, rest = as_redis(url).partition("://")
    found = _PARTS.fullmatch(rest)
    if not scheme.startswith("redis") or not found:
        return url
    given, hosts, path, query = (part or "" for part in found.groups())
    if not re.search(r"[?&](username|password)=", query):
        given = _credentials(given, user, password)
    if "+" not in scheme and path in ("", "/") and "db=" not in query:
        path = f"/{database}" if database else path
    return "".join((scheme, "://", given, "@" * bool(given), hosts, path, query))


def _credentials(given: str, user: str, password: str) -> str:
    """Write user and password as a URL has them. Those that were *given* there come first."""
    had_user, _, had_password = given.partition(":")
    user, password = had_user or quote(user, safe=""), had_password or quote(password, safe="")
    return f"{user}:{password}" if password else user


def _raw_characters(url: str) -> list[str]:
    """Find the characters before the last @ that end a user or password too early."""
    scheme, _, rest = url.partition("://")
    location = re.split("[/?#]", rest, maxsplit=1)[0]
    if not scheme.startswith("redis") or "@" not in rest:
        return []
    if "@" in location:
        return [character for character in "[]" if character in location.rpartition("@")[0]]
    if re.fullmatch(r"[\w.,:-]*:\d+|[\w.,-]+|\[[0-9a-fA-F:.]+\](:\d+)?", location):
        return []  # an @ in an option
    return [character for character in "/#?[]" if character in rest.rpartition("@")[0]]


def url_problems(url: str) -> list[str]:
    """Find the problems of *url*, a sentence each. Neither a server nor a file is asked."""
    raw = _raw_characters(url)
    if raw:
        return [f"URL has {' and '.join(raw)} before its last @: {_ENCODED}"]
    if _names_nodes(url):
        return _nodes_problems(url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  reading it is the check
    except ValueError:
        return ["URL cannot be read: a port is no number, or a bracket is missing"]
    if parts.scheme not in SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        return [f"URL begins with {parts.scheme!r}, not with one of {schemes}"]
    if parts.scheme in ("redis", "rediss"):
        return _host_problems(parts)
    if parts.scheme == "unix" and (parts.hostname or not parts.path):
        return ["URL unix:// names no absolute path: write three slashes, unix:///run/redis.sock"]
    return []


def _host_problems(parts: SplitResult) -> list[str]:
    if parts.fragment:
        return [f"URL has a #: {_ENCODED}"]
    if re.fullmatch(r"/?|/\d+", parts.path):
        return []
    if "@" in parts.path:
        return [f"URL has an @ behind a slash: {_ENCODED}"]
    return [f"URL ends with {parts.path!r}, which is no database number"]


def is_cluster(url: str) -> bool:
    """Tell whether *url* names a Cluster."""
    return url.partition(":")[0].endswith("+cluster")


def _names_nodes(url: str) -> bool:
    """Tell whether *url* lists the nodes of a Cluster or the Sentinels of a primary."""
    return re.match(r"rediss?\+(sentinel|cluster):", url) is not None


def _nodes_problems(url: str) -> list[str]:
    scheme, _, rest = url.partition("?")[0].partition("://")
    location, _, path = rest.partition("/")
    hosts = location.rpartition("@")[2].split(",")
    if not all(re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", host) for host in hosts):
        return [f"URL {scheme}:// names hosts and ports, separated by commas: {scheme}://h1:7000,h2:7001"]
    if scheme.endswith("sentinel") and not re.fullmatch(r"[\w.-]+(/\d+)?", path):
        return [f"URL {scheme}:// ends with the name of the primary, and a database: {scheme}://h1:26379/mymaster/0"]
    if scheme.endswith("cluster") and path not in ("", "0"):
        return ["URL redis+cluster:// has a path, but a Cluster has one database only"]
    return []


def masked(url: str) -> str:
    """Show *url* in a log, without its password and query."""
    if _names_nodes(url):
        return _masked_nodes(url)
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable URL"
    if "@" in parts.path:  # a slash in a password that should have been %2F
        return f"{parts.scheme}://***"
    user = parts.username or ""
    if parts.password:
        user += ":***"
    return f"{parts.scheme}://{user}{'@' if user else ''}{parts.hostname or ''}{port}{parts.path}"


def _masked_nodes(url: str) -> str:
    shown, _, query = url.partition("?")
    scheme, _, rest = shown.partition("://")
    location, slash, path = rest.partition("/")
    if "@" in path or "@" in query:  # a slash or a question mark in a password that should have been %2F or %3F
        return f"{scheme}://***"
    credentials, at, hosts = location.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{hosts}{slash}{path}"
