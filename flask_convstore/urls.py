"""``CONVSTORE_URL``: the schemes, the problems of a URL, and a URL as a log shows it. ``stores.connect`` connects."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "embedded", "memory")


def url_problems(url: str) -> list[str]:
    """Find the problems of *url*, a sentence each. Neither a server nor a file is asked."""
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
        return ["URL has a #: write %23 for a # in a password"]
    if re.fullmatch(r"/?|/\d+", parts.path):
        return []
    if "@" in parts.path:
        return ["URL has an @ behind a slash: write %2F for a slash in a password"]
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
