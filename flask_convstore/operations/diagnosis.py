"""A diagnosis of a server: findings in words that can be read aloud, each with its cure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from ..config import Settings

State = Literal["ok", "warning", "problem"]

_CLOCK_MS, _WRONG_CLOCK_MS = 1_000, 60_000
_SLOW_MS, _SLOWEST_MS = 25.0, 500.0
"""A round trip that half of the calls, and one in a hundred, should not take longer than."""
_FULL, _NEARLY_FULL = 0.95, 0.8
_FEW_LEFT = 0.8
_OLDEST = {"redis": 7, "valkey": 8}


class Finding(NamedTuple):
    """One line of a diagnosis.

    Attributes:
        about: The thing that was looked at, in a word or two.
        state: ``ok``, ``warning``, or ``problem``.
        text: The finding, a sentence.
        cure: What to do, a sentence ("": nothing).
    """

    about: str
    state: State
    text: str
    cure: str = ""


class _Lacks(Protocol):
    """A command that a user may not run."""

    @property
    def name(self) -> str: ...

    @property
    def loss(self) -> str: ...


class Facts(Protocol):
    """The facts of a server, as ``stores.redis.survey`` has them."""

    @property
    def database(self) -> int: ...

    @property
    def info(self) -> Mapping[str, str]: ...

    @property
    def config(self) -> Mapping[str, str]: ...

    @property
    def ahead_ms(self) -> float | None: ...

    @property
    def pings_ms(self) -> Sequence[float]: ...

    @property
    def lacking(self) -> Sequence[_Lacks]: ...

    @property
    def has_keys(self) -> bool: ...

    @property
    def elsewhere(self) -> Sequence[int]: ...


def of_server(facts: Facts, settings: Settings, workers: int) -> Iterator[Finding]:
    """Give the findings about one server. *workers* is the number of processes that an app has."""
    if facts.info:
        yield _version(facts)
        yield _persistence(facts)
        yield _saving(facts)
        yield _durability(facts, settings)
        yield _eviction(facts)
        yield _memory(facts, settings)
        yield _role(facts)
        yield _replicas(facts, settings)
        yield _connections(facts, settings, workers)
    else:
        yield Finding(
            "server",
            "warning",
            "The server tells nothing of itself, so that its disk and its memory are not known.",
            "Allow the command INFO to this user, or ask whoever runs the server.",
        )
    yield _rights(facts)
    yield _clock(facts)
    yield latency("round trip", facts.pings_ms)
    yield _database(facts, settings)


def worst(findings: Sequence[Finding]) -> State:
    """Find the worst state of a diagnosis."""
    states = {finding.state for finding in findings}
    return "problem" if "problem" in states else "warning" if "warning" in states else "ok"


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """Read a percentile from values that are sorted."""
    return sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))]


def _version(facts: Facts) -> Finding:
    kind = "valkey" if "valkey_version" in facts.info else "redis"
    version = facts.info.get(f"{kind}_version", "0")
    name = f"{kind.capitalize()} {version}"
    major = int(re.match(r"\d*", version)[0] or 0)  # type: ignore[index]
    if major < _OLDEST[kind]:
        return Finding("server", "problem", f"{name} is too old.", "Take Redis 7, Valkey 8, or a newer one.")
    return Finding("server", "ok", f"{name}.")


def _persistence(facts: Facts) -> Finding:
    if facts.info.get("aof_enabled") == "1":
        when = facts.config.get("appendfsync")
        if when == "no":
            return Finding(
                "persistence",
                "warning",
                "The server logs each write, but leaves it to the system when the log reaches the disk.",
                "Set appendfsync to everysec.",
            )
        lost = {"always": "nothing", "everysec": "at most about one second"}.get(when or "", "little")
        return Finding("persistence", "ok", f"The server logs each write. A crash loses {lost}.")
    cure = "Set appendonly to yes, and appendfsync to everysec."
    if "save" not in facts.config:
        text = "The server keeps no log of writes, and does not show whether it takes snapshots."
        return Finding("persistence", "warning", text, cure)
    if not facts.config["save"].strip():
        text = "Nothing is written to a disk: a restart of the server loses every conversation."
        return Finding("persistence", "problem", text, cure)
    text = "The server takes snapshots only: a crash loses every change since the last one."
    return Finding("persistence", "warning", text, cure)


_SAVING = {
    "rdb_last_bgsave_status": "snapshot",
    "aof_last_write_status": "write to its log",
    "aof_last_bgrewrite_status": "rewrite of its log",
}


def _saving(facts: Facts) -> Finding:
    failed = [what for name, what in _SAVING.items() if facts.info.get(name, "ok") != "ok"]
    if failed:
        return Finding(
            "saving",
            "problem",
            f"The last {' and the last '.join(failed)} of the server has failed.",
            "Look for the reason in the log of the server: most often its disk is full, or not its own to write.",
        )
    return Finding("saving", "ok", "Whatever the server had to save was saved.")


def _durability(facts: Facts, settings: Settings) -> Finding:
    if settings.durability != "fsync":
        return Finding("durability", "ok", f"The setting asks for the level {settings.durability}.")
    is_kept = facts.info.get("aof_enabled") == "1" and facts.config.get("appendfsync") == "always"
    if is_kept:
        return Finding("durability", "ok", "The setting asks for fsync, and the server does that.")
    text = "The setting asks for fsync, and the server does not do that, or does not show it: writes are refused."
    return Finding("durability", "problem", text, "Set appendonly to yes, and appendfsync to always.")


def _eviction(facts: Facts) -> Finding:
    policy = facts.info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("eviction", "ok", "A full server refuses writes, and removes nothing.")
    text = f"A full server removes conversations, or parts of them, by the policy {policy}."
    is_bounded = _number(facts, "maxmemory") > 0
    return Finding("eviction", "problem" if is_bounded else "warning", text, "Set maxmemory-policy to noeviction.")


def _memory(facts: Facts, settings: Settings) -> Finding:
    used, most = _number(facts, "used_memory"), _number(facts, "maxmemory")
    limit = most or _number(facts, "total_system_memory")
    if not limit:
        return Finding("memory", "ok", f"The server uses {size(used)}, and tells no limit.")
    share = used / limit
    of = f"{size(used)} of {size(limit)}" + ("" if most else ", the memory of its machine")
    if share >= _NEARLY_FULL:
        state: State = "problem" if share >= _FULL else "warning"
        return Finding("memory", state, f"The server is nearly full: it uses {of}.", "Raise maxmemory, or keep less.")
    if most and most < settings.max_session_bytes:
        return Finding(
            "memory",
            "problem",
            f"The server may use {size(most)} in all, and one session may take {size(settings.max_session_bytes)}.",
            "Raise maxmemory, or lower CONVSTORE_MAX_SESSION_BYTES.",
        )
    return Finding("memory", "ok", f"The server uses {of}.")


def _role(facts: Facts) -> Finding:
    if facts.info.get("role", "master") == "master":
        return Finding("role", "ok", "The server is a primary, and takes writes.")
    text = "The server is a replica: it takes no writes."
    return Finding("role", "problem", text, "Name its primary in the URL, or the Sentinels that know it.")


def _replicas(facts: Facts, settings: Settings) -> Finding:
    wanted = int(settings.durability.partition(":")[2] or 0)
    there = sum("state=online" in value for name, value in facts.info.items() if re.fullmatch(r"slave\d+", name))
    count = f"{there} {'replica is' if there == 1 else 'replicas are'} online"
    if there < wanted:
        return Finding(
            "replication",
            "problem",
            f"The setting asks for {settings.durability}, and {count}: each write is reported as not confirmed.",
            "Start more replicas, or lower CONVSTORE_DURABILITY.",
        )
    return Finding("replication", "ok", f"{count.capitalize()}, and the setting needs {wanted}.")


def _connections(facts: Facts, settings: Settings, workers: int) -> Finding:
    most = int(facts.config.get("maxclients") or facts.info.get("maxclients") or 0)
    used = _number(facts, "connected_clients")
    each = settings.max_connections
    named = f"{workers} {'worker' if workers == 1 else 'workers'}"
    if not most:
        return Finding("connections", "ok", f"{used} are open. The server does not tell its limit.")
    if used > _FEW_LEFT * most:
        text = f"{used} of {most} connections of the server are in use."
        return Finding("connections", "problem", text, "Raise maxclients, or find who leaves connections open.")
    is_bounded = each < type(settings).max_connections
    if workers > most or (is_bounded and workers * each > most):
        text = f"{named} may open {each} connections each, and the server takes {most}."
        return Finding("connections", "warning", text, "Raise maxclients, or lower CONVSTORE_MAX_CONNECTIONS.")
    return Finding("connections", "ok", f"{used} of {most} are open, by all who use the server.")


def _rights(facts: Facts) -> Finding:
    names = sorted({lacks.name for lacks in facts.lacking if not lacks.loss})
    if names:
        return Finding(
            "rights",
            "problem",
            f"This user may not run {', '.join(names)}.",
            "Give the user the rights in docs/security.md, by the command ACL SETUSER.",
        )
    losses: dict[str, list[str]] = {}
    for lacks in facts.lacking:
        losses.setdefault(lacks.loss, []).append(lacks.name)
    if losses:
        text = ", and ".join(f"without {', '.join(sorted(set(some)))} {loss}" for loss, some in losses.items())
        cure = "Give the user these rights, by the command ACL SETUSER."
        return Finding("rights", "warning", f"{text[0].upper()}{text[1:]}.", cure)
    return Finding("rights", "ok", "This user may run every command that sessions need.")


def _clock(facts: Facts) -> Finding:
    if facts.ahead_ms is None:
        return Finding("clock", "warning", "The server does not tell its time.", "Allow the command TIME to this user.")
    away = abs(facts.ahead_ms)
    if away < _CLOCK_MS:
        return Finding("clock", "ok", "The clocks of the server and of this host agree.")
    side = "ahead of" if facts.ahead_ms > 0 else "behind"
    text = f"The clock of the server is {away / 1000:.0f} seconds {side} that of this host."
    cure = "Let both hosts take their time from one source, by NTP."
    return Finding("clock", "problem" if away >= _WRONG_CLOCK_MS else "warning", text, cure)


def latency(about: str, times_ms: Sequence[float]) -> Finding:
    """Judge sorted times of one kind of call."""
    median, most = percentile(times_ms, 0.5), percentile(times_ms, 0.99)
    text = f"Half take up to {max(0.1, median):.1f} milliseconds, and 99 of 100 up to {max(0.1, most):.1f}."
    if median > _SLOW_MS or most > _SLOWEST_MS:
        cure = "Move the app closer to the server, or look for slow commands of others in SLOWLOG."
        return Finding(about, "warning", text, cure)
    return Finding(about, "ok", text)


def _database(facts: Facts, settings: Settings) -> Finding:
    here, others = facts.database, ", ".join(map(str, facts.elsewhere))
    if not facts.elsewhere:
        return Finding("database", "ok", f"The database is number {here}.")
    found = f"Keys that begin with {settings.prefix} are in database {others}"
    if facts.has_keys:
        text = f"{found} too, and the URL names database {here}."
        return Finding("database", "warning", text, "Find out which app writes there.")
    text = f"{found}, and the URL names database {here}, which has none."
    cure = f"End the URL with the number of the right database, such as /{facts.elsewhere[0]}."
    return Finding("database", "problem", text, cure)


def _number(facts: Facts, name: str) -> int:
    return int(facts.info.get(name) or 0)


_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Write a number of bytes for people."""
    power = 0
    while count >= 1024 and power < len(_UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} {_UNITS[power]}" if count >= 10 or not power else f"{count:.1f} {_UNITS[power]}"
