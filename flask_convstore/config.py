"""The settings. One declaration gives a setting its name, type, default, bounds and document.

A setting is looked up as ``CONVSTORE_<NAME>`` in ``app.config``, then in the environment. URL and TTL are then looked up
under the names that apps already use, such as ``REDIS_URL`` and ``REDIS_HOST``. The default comes last.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from typing import Any

from .domain.types import TOMBSTONE_MS, Limits
from .domain.validation import is_for_ever, no_lifetime
from .errors import ConfigurationError
from .urls import as_redis, url_problems, with_credentials

_log = logging.getLogger("flask_convstore")

DAY = 86_400
YEARS = 10 * 365 * DAY

_NAMES = "names, separated by commas"
_KINDS: dict[str, str] = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": _NAMES,
    "bool | tuple[str, ...]": f"true, false, or {_NAMES}",
}
"""Types of settings, in words."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def _setting(
    default: Any,
    document: str,
    *,
    minimum: float = 0,
    maximum: float = float("inf"),
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    return field(
        default=default,
        repr=not secret,
        metadata={"document": document, "minimum": minimum, "maximum": maximum, "choices": choices, "secret": secret},
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting, validated. The attribute ``ttl`` is ``CONVSTORE_TTL``.

    Times are seconds. Sizes are bytes of JSON text.
    """

    url: str = _setting(
        "redis://localhost:6379/0",
        "Place of the sessions: `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://` (TLS), `unix://`, "
        "`redis+sentinel://h1:26379,h2:26379/mymaster/0`, `redis+cluster://h1:7000,h2:7001`, `embedded:///folder`, "
        "`memory://` (this process).",
        secret=True,
    )
    prefix: str = _setting("chat:session:", "Beginning of every key. No braces, no control characters.")
    ttl: float = _setting(3600, "Lifetime of a session from its last interaction.", minimum=1, maximum=YEARS)
    ttl_complete: float = _setting(
        DAY, 'Lifetime of a session once `data["complete"]` is true.', minimum=1, maximum=YEARS
    )
    max_ttl: float = _setting(
        365 * DAY, "Longest lifetime that a session can be given of its own.", minimum=1, maximum=YEARS
    )
    max_age: float = _setting(YEARS, "Longest time from a session's creation to its end.", minimum=1, maximum=YEARS)
    history_key: tuple[str, ...] = _setting(
        ("history", "messages"),
        "Keys of a saved dict. The first one that holds a list has the messages. A session remembers its key.",
    )
    max_message_bytes: int = _setting(1_048_576, "Largest message, metadata included.", minimum=1, maximum=2**29)
    max_data_bytes: int = _setting(
        1_048_576, "Largest data of a session, all fields together, names included.", minimum=1, maximum=2**29
    )
    max_session_bytes: int = _setting(2**26, "Largest session, data and messages.", minimum=1, maximum=2**32)
    max_history: int = _setting(100_000, "Most messages of a session.", minimum=1, maximum=1e7)
    history_policy: str = _setting(
        "reject",
        "Answer to a write beyond `MAX_HISTORY`: `reject` refuses the write, `trim` drops the oldest messages behind the "
        "first system messages.",
        choices=("reject", "trim"),
    )
    max_metadata_depth: int = _setting(8, "Deepest nesting of a message's metadata.", minimum=1, maximum=90)
    conflict: str = _setting(
        "merge",
        "Answer to two requests that change one field, in a value of a mapping or in a loaded session that is saved. "
        "`merge` merges both changes at any depth. In a collision the last write wins, and log and signal tell. `raise` "
        "is a `ConflictError` (409) where both have changed one field.",
        choices=("merge", "raise"),
    )
    types: str = _setting(
        "plain",
        "Form of values whose types JSON lacks. `plain` writes a time as a text and a tuple as a list, and refuses sets, "
        "bytes and keys that are no texts. `tagged` brings all of these back as they went in.",
        choices=("plain", "tagged"),
    )
    conversation_prefix: str = _setting(
        "",
        "Beginning of the keys of `save_message`, other than `PREFIX`. The default is `PREFIX` followed by `conversation:`.",
    )
    conversation_ttl: float = _setting(
        7 * DAY,
        "Lifetime of a conversation of `save_message` from its last interaction.",
        minimum=1,
        maximum=YEARS,
    )
    anonymous_owner: bool = _setting(
        False,
        "Make a browser without a login an owner of its own, by a signed cookie. Needs `SECRET_KEY`.",
    )
    max_sessions: int = _setting(50, "Most sessions of an owner. 0 sets no limit.", maximum=1e6)
    sessions_policy: str = _setting(
        "oldest",
        "Answer to a start beyond `MAX_SESSIONS`: `oldest` deletes the session with the oldest interaction, `reject` "
        "answers 409.",
        choices=("oldest", "reject"),
    )
    turn_policy: str = _setting(
        "reject",
        "Answer to a turn while another is in progress: `reject` answers 409, `wait` waits for its end, `supersede` takes "
        "over.",
        choices=("reject", "wait", "supersede"),
    )
    max_turns_per_minute: int = _setting(
        0,
        "Most turns, starts, forks, compactions and imports of an owner in a minute. Beyond this, the answer is 429. "
        "Browsers without a cookie are counted by their address, up to ten times as many. 0 sets no limit.",
        maximum=1e6,
    )
    turn_wait: float = _setting(
        30.0, "Longest wait of a turn with the policy `wait`. The wait occupies a worker.", maximum=3600
    )
    orphans: str = _setting(
        "drop",
        "Treatment of a tool's call without a result in what a model is shown: `drop` leaves the call out, `answer` gives "
        "it a result that says it was interrupted.",
        choices=("drop", "answer"),
    )
    turn_lease: float = _setting(
        30.0, "Lease of a turn. The turn of a dead worker is free after this time.", minimum=0.1, maximum=3600
    )
    turn_max: float = _setting(
        900.0, "Longest turn. The lease of a handler that hangs is not renewed after this.", minimum=1, maximum=DAY
    )
    stream_keep: float = _setting(
        300.0, "Time for which the stream of a reply can be replayed after its end.", minimum=1, maximum=DAY
    )
    stream_idle: float = _setting(
        120.0,
        "Longest wait for the next chunk of a streamed reply. What had come is stored then.",
        minimum=1,
        maximum=DAY,
    )
    max_tokens: int = _setting(
        1000, "Least number of a session's last writes that can be repeated without harm.", minimum=1, maximum=1e5
    )
    connect_timeout: float = _setting(2.0, "Longest wait for a connection.", minimum=0.001, maximum=3600)
    command_timeout: float = _setting(3.0, "Longest wait for an answer.", minimum=0.001, maximum=3600)
    durability: str = _setting(
        "primary",
        "Level of an acknowledged write: `primary` (the server has the write), `fsync` (its disk has the write, and "
        "`appendfsync always` is verified), `replicas:n` (n replicas have the write too).",
    )
    budget: float = _setting(5.0, "Longest time of a call, retries included.", minimum=0.01, maximum=3600)
    max_connections: int = _setting(
        10_000,
        "Most connections of a process. Each thread in a call needs one. Others wait, first come, first served.",
        minimum=1,
    )
    circuit_failures: int = _setting(
        5,
        "Number of calls in a row without an answer, after which calls fail at once. One call tries again after "
        "1, 2, 4 … 32 s.",
        minimum=1,
    )
    fallback: str = _setting(
        "journal",
        "Place of sessions that are started while the server is away: `journal` (a file in the instance folder, shared by "
        "the workers of a host, replayed later), `memory` (this process, lost with it), `none` (503).",
        choices=("journal", "memory", "none"),
    )
    outage: str = _setting(
        "refuse",
        "What is done while the server is away with a session that this host does not know whole: `refuse` (503), or "
        "`continue` (it is gone on with, and what this host writes is added to the session later).",
        choices=("refuse", "continue"),
    )
    keep_warm: int = _setting(
        0,
        "Number of sessions whose newest messages a process remembers, for when the server is away. Only with "
        "`OUTAGE=continue`.",
        maximum=100_000,
    )
    journal_max_bytes: int = _setting(
        2**28, "Largest journal. Beyond this, the answer is 503.", minimum=2**16, maximum=2**40
    )
    retries: int = _setting(
        3, "Most retries of a call without an answer, with exponential backoff and jitter.", maximum=100
    )
    routes: bool | tuple[str, ...] = _setting(
        True, "Endpoints that the blueprint serves: all, none, or these, such as `start_session, get_session`."
    )
    client_roles: tuple[str, ...] = _setting(("user",), "Roles that HTTP clients may write.")
    client_data: bool | tuple[str, ...] = _setting(True, "Data fields that HTTP clients may set: all, none, or these.")
    client_usage: bool = _setting(
        False, "Let HTTP clients tell the tokens of their messages, where they ask the model themselves."
    )
    client_ttl: bool = _setting(False, "Let HTTP clients give a session its lifetime.")
    visible_roles: tuple[str, ...] = _setting(
        ("user", "assistant", "tool"), "Roles whose messages HTTP clients see. A message without a role is always seen."
    )

    trusted_origins: tuple[str, ...] = _setting(
        (),
        "Other origins whose pages may change sessions, as browsers name them: `https://app.example`. `*` trusts all.",
    )
    metrics: bool = _setting(
        False, "Count and time every operation for Prometheus, and serve `/metrics`. Needs the extra `[metrics]`."
    )
    figures: bool = _setting(
        False, "Count what happens for `figures()` and `timeline()`: every few seconds each process writes its sums."
    )
    tracing: bool = _setting(
        False,
        "Make spans of OpenTelemetry, which name the ids of sessions. Needs the extra `[tracing]`, and a provider.",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", as_redis(self.url))
        problems = [problem for setting in fields(self) for problem in _bounds_problems(setting, self)]
        problems += self._prefix_problems()
        problems += url_problems(self.url)
        if not self.client_roles:
            problems.append("CLIENT_ROLES is empty: name the roles that clients may write, such as 'user'")
        if not re.fullmatch(r"primary|fsync|replicas:[1-9]\d?", self.durability):
            problems.append(f"DURABILITY must be primary, fsync or replicas:n, n from 1 to 99, not {self.durability!r}")
        problems += key_problems(self.history_key)
        problems += [
            f"TRUSTED_ORIGINS names {origin!r}: name origins as browsers do, such as 'https://app.example', without a path"
            for origin in self.trusted_origins
            if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+", origin)
        ]
        if problems:
            raise ConfigurationError(problems)

    def _prefix_problems(self) -> list[str]:
        problems = [
            f"{name} holds a brace or a control character: choose plain text, such as 'chat:session:'"
            for name, prefix in (("PREFIX", self.prefix), ("CONVERSATION_PREFIX", self.conversation_prefix))
            if not _is_plain(prefix)
        ]
        if _overlap(self.prefix, self.conversation_prefix):
            problems.append("CONVERSATION_PREFIX and PREFIX would share keys: choose another one")
        return problems

    def __hash__(self) -> int:
        # A hash of all fields would take longer, and each request finds its schema by this one.
        return hash((self.url, self.prefix))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Beginnings of all keys."""
        return (self.prefix, self.conversation_prefix) if self.conversation_prefix else (self.prefix,)


def history_keys(given: str | Sequence[str]) -> tuple[str, ...]:
    """Read keys of the history: a text with commas, or a list of texts.

    Raises:
        ConfigurationError: A key is empty, doubled or no text.
    """
    try:
        keys: tuple[str, ...] = _converted(given, "tuple[str, ...]")
    except ValueError:
        raise ConfigurationError([f"history_key must be {_NAMES}, not {given!r}"]) from None
    problems = key_problems(keys)
    if problems:
        raise ConfigurationError(problems)
    return keys


def key_problems(keys: tuple[str, ...]) -> list[str]:
    """List the problems with the keys of the history."""
    if not keys or "" in keys:
        return ["HISTORY_KEY is empty: name the key that holds the messages, such as 'history'"]
    if not all(key.isprintable() for key in keys):
        return [f"HISTORY_KEY holds a control character: choose plain text, such as 'history', not {keys!r}"]
    if len(set(keys)) < len(keys):
        return [f"HISTORY_KEY names a key twice: {', '.join(keys)}. Name each once"]
    return []


BESIDE = ("owner:", "alias:", "map:", "conversation:", "figures:")
"""Words behind a prefix, in the keys that are no session's."""


def _is_plain(prefix: str) -> bool:
    return all(character.isprintable() and character not in "{}" for character in prefix)


def _overlap(one: str, other: str) -> bool:
    """Tell whether keys with one prefix may be keys with the other."""
    return one == other or _is_beside(one, other) or _is_beside(other, one)


def _is_beside(prefix: str, longer: str) -> bool:
    """Tell whether *longer* is *prefix* followed by a word for keys that are no session's."""
    return bool(prefix) and any(longer.startswith(prefix + word) for word in BESIDE)


def share_keys(one: Settings, other: Settings) -> bool:
    """Tell whether two stores on one server would share keys."""
    return any(_overlap(first, second) for first in one.prefixes for second in other.prefixes)


_CALLS_OF_A_RETRY = 12
"""Calls after which nothing of ours is repeated any more: those of an operation, tried anew behind a failure."""


def limits_of(settings: Settings) -> Limits:
    """Read from *settings* how long sessions live, and how large they may get."""
    return Limits(
        ttl_ms=round(settings.ttl * 1000),
        ttl_complete_ms=round(settings.ttl_complete * 1000),
        max_age_ms=round(settings.max_age * 1000),
        tombstone_ms=TOMBSTONE_MS,
        max_tokens=settings.max_tokens,
        receipt_ms=round(settings.budget * 1000) * _CALLS_OF_A_RETRY,
        max_history=settings.max_history,
        trim=settings.history_policy == "trim",
        max_data_bytes=settings.max_data_bytes,
        max_session_bytes=settings.max_session_bytes,
        max_sessions=settings.max_sessions,
        evict=settings.sessions_policy == "oldest",
        history_key=settings.history_key[0],
    )


def load_settings(
    config: Mapping[str, Any],
    environ: Mapping[str, str],
    prefix: str = "CONVSTORE",
    *,
    endpoints: Collection[str] = (),
) -> Settings:
    """Load the settings of an app whose names begin with *prefix*.

    Args:
        endpoints: Names that ``CONVSTORE_ROUTES`` may hold. Only the HTTP door, which lies above, knows them.

    Raises:
        ConfigurationError: *config* has unknown names or bad values. The error lists all of them. An unknown name in the
            environment is only a warning, since other programs write there too.
    """
    declared = {f"{prefix}_{setting.name.upper()}": setting for setting in fields(Settings)}
    problems = [_unknown(key, prefix, declared) for key in _unknown_names(config, prefix, declared)]
    for key in _unknown_names(environ, prefix, declared):
        _log.warning("in the environment, %s", _unknown(key, prefix, declared))

    values, common_problems = _common_values(config, environ, prefix)
    problems += common_problems
    for key, setting in declared.items():
        try:
            values |= _given_value(setting, config.get(key), environ.get(key))
        except ValueError as error:
            problems.append(f"{key} {error}")
            values.pop(setting.name, None)
    try:
        settings = Settings(**values)
    except ConfigurationError as error:
        problems += [f"{prefix}_{problem}" for problem in error.problems]
    problems += [f"{prefix}_{problem}" for problem in _routes_problems(values.get("routes"), endpoints)]
    if problems:
        raise ConfigurationError(problems)
    return settings


def _unknown_names(given: Mapping[str, Any], prefix: str, declared: Collection[str]) -> list[str]:
    return [key for key in given if key.startswith(f"{prefix}_") and key not in declared]


_WHOLE = "redis://user:password@host:6379/0"
_TLS = "rediss://host:6379/0"
_IN_THE_URL = {
    **dict.fromkeys(("PASSWORD", "USERNAME", "USER", "HOST", "HOSTNAME", "PORT", "DB", "DATABASE"), _WHOLE),
    **dict.fromkeys(("SSL", "TLS"), _TLS),
    **dict.fromkeys(("REDIS_URL", "URI", "REDIS", "SERVER"), _WHOLE),
}
"""Words of other libraries for what our URL says."""


def _unknown(key: str, prefix: str, declared: Collection[str]) -> str:
    word = key.removeprefix(f"{prefix}_")
    if word in _IN_THE_URL:
        return f"{key} is no setting: it belongs to {prefix}_URL, as in {_IN_THE_URL[word]}"
    names = [name.removeprefix(f"{prefix}_") for name in declared]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.65)  # without the beginning, which all have
    return f"{key} is no setting" + (f": did you mean {prefix}_{near[0]}?" if near else "")


def _routes_problems(routes: Any, endpoints: Collection[str]) -> list[str]:
    names = routes if isinstance(routes, tuple) else ()
    return [
        f"ROUTES names {name!r}, which is no endpoint: choose from {', '.join(endpoints)}"
        for name in names
        if name not in endpoints
    ]


# ---- the names that apps already use


def _common_values(
    config: Mapping[str, Any], environ: Mapping[str, str], prefix: str
) -> tuple[dict[str, Any], list[str]]:
    """Find URL and TTL under other names, and the problems with these."""
    values: dict[str, Any] = {}
    problems = []
    url = environ.get("REDIS_URL")
    url = with_credentials(url, *_credentials(environ)) if url else _url_of_parts(environ)
    if prefix != "CONVSTORE":
        # A second store lies beside the first one, unless its own settings say otherwise.
        first = config.get("CONVSTORE_URL") or environ.get("CONVSTORE_URL")
        url = first if isinstance(first, str) else url
    if url:
        values["url"] = url
    ttl = environ.get("REDIS_CONVERSATION_TTL")
    if ttl:
        try:
            values["ttl"] = float(ttl)
        except ValueError:
            problems.append(f"REDIS_CONVERSATION_TTL must be a number, not {ttl!r}")
    return values, problems


def _url_of_parts(environ: Mapping[str, str]) -> str | None:
    """Build a URL from ``REDIS_HOST`` and its kin. None if the environment has none of them."""
    host, port = (environ.get(f"REDIS_{part}") for part in ("HOST", "PORT"))
    user, password, database = _credentials(environ)
    if not any((host, port, password, database)):
        return None
    host = host or "localhost"
    if ":" in host:
        host = f"[{host}]"
    # Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 beside a service named redis.
    port = (port or "6379").rpartition(":")[2]
    return with_credentials(f"redis://{host}:{port}", user, password, database or "0")


def _credentials(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Read user, password and database, "" where there is none."""
    user, password, database = (environ.get(f"REDIS_{part}", "") for part in ("USERNAME", "PASSWORD", "DB"))
    return user, password, database


# ---- values


def _given_value(setting: Field[Any], configured: object, text: str | None) -> dict[str, Any]:
    """Convert the value of ``app.config``, or else the text of the environment. Empty if neither is there.

    Raises:
        ValueError: The value is not of the setting's type. The text says which type that is.
    """
    given = (text or None) if configured is None else configured
    try:
        return {} if given is None else {setting.name: _converted(given, str(setting.type))}
    except ValueError:
        if setting.name.upper() in _LIFETIMES and is_for_ever(given):
            raise ValueError(no_lifetime(given, setting.metadata["maximum"])) from None
        shown = "" if setting.metadata["secret"] else f", not {given!r}"
        raise ValueError(f"must be {_KINDS[str(setting.type)]}{shown}") from None


def _converted(value: object, kind: str) -> Any:
    """Convert *value* to a type of ``_KINDS``. ValueError if the value is of another type."""
    if isinstance(value, str):
        return _parsed(value, kind)
    if isinstance(value, bool):
        is_right = "bool" in kind
    elif isinstance(value, int):
        is_right = kind in ("int", "float")
    elif isinstance(value, (float, timedelta)):
        is_right = kind == "float"
    else:
        return _names(value, kind)
    if not is_right:
        raise ValueError
    return value.total_seconds() if isinstance(value, timedelta) else value


def _names(value: object, kind: str) -> tuple[str, ...]:
    is_list = "tuple" in kind and isinstance(value, (list, tuple))
    if not is_list or not all(isinstance(name, str) for name in value):  # type: ignore[attr-defined]
        raise ValueError
    return tuple(value)  # type: ignore[arg-type]


def _parsed(text: str, kind: str) -> Any:
    """Parse *text* as a type of ``_KINDS``. ValueError if the text is of another type."""
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    word = text.strip().lower()
    if "bool" in kind and word in (*_TRUE, *_FALSE):
        return word in _TRUE
    if kind == "bool":
        raise ValueError
    return tuple(name.strip() for name in text.split(",") if name.strip())


_LIFETIMES = ("TTL", "TTL_COMPLETE", "MAX_TTL", "MAX_AGE", "CONVERSATION_TTL")


def _bounds_problems(setting: Field[Any], settings: Settings) -> list[str]:
    name, value, facts = setting.name.upper(), getattr(settings, setting.name), setting.metadata
    choices = facts["choices"]
    if choices and value not in choices:
        return [f"{name} must be one of {', '.join(choices)}, not {value!r}"]
    if setting.type not in ("int", "float") or facts["minimum"] <= value <= facts["maximum"]:
        return []
    if name in _LIFETIMES:
        return [f"{name} {no_lifetime(value, facts['maximum'])}"]
    return [f"{name} must be {facts['minimum']:.12g} to {facts['maximum']:.12g}, not {value!r}"]
