"""The settings: one declaration each gives name, type, default, bounds and document.

A setting is ``CONVSTORE_<NAME>`` in ``app.config``, else in the environment, else (URL and TTL) what the environment says
in the names that apps already use (``REDIS_URL``, ``REDIS_HOST``, …), else its default.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import quote

from .domain.types import TOMBSTONE_MS, Limits
from .errors import ConfigurationError
from .urls import url_problems

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
    """Every setting, validated. The attribute ``ttl`` is ``CONVSTORE_TTL``; times are seconds, sizes bytes of JSON text."""

    url: str = _setting(
        "redis://localhost:6379/0",
        "Where sessions are: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://h1:26379,h2:26379/mymaster/0`, "
        "`redis+cluster://h1:7000,h2:7001`, `embedded:///folder`, `memory://` (this process).",
        secret=True,
    )
    prefix: str = _setting("chat:session:", "What every key begins with. No braces, no control characters.")
    ttl: float = _setting(3600, "How long a session lives from its last interaction.", minimum=1, maximum=YEARS)
    ttl_complete: float = _setting(DAY, 'The same once `data["complete"]` is true.', minimum=1, maximum=YEARS)
    max_ttl: float = _setting(
        365 * DAY, "The longest lifetime that a session can be given of its own.", minimum=1, maximum=YEARS
    )
    max_age: float = _setting(YEARS, "The longest time from a session's creation to its end.", minimum=1, maximum=YEARS)
    history_key: str = _setting("history", "The key of a saved dict that holds its messages.")
    max_message_bytes: int = _setting(1_048_576, "The largest message, metadata included.", minimum=1, maximum=2**29)
    max_data_bytes: int = _setting(
        1_048_576, "The largest data of one write, all fields together.", minimum=1, maximum=2**29
    )
    max_session_bytes: int = _setting(2**26, "The largest session, data and messages.", minimum=1, maximum=2**32)
    max_history: int = _setting(100_000, "The most messages of a session.", minimum=1, maximum=1e7)
    history_policy: str = _setting(
        "reject",
        "What happens to a write over it: `reject` refuses it, `trim` drops the oldest.",
        choices=("reject", "trim"),
    )
    max_metadata_depth: int = _setting(8, "The deepest nesting of a message's metadata.", minimum=1, maximum=90)
    conflict: str = _setting(
        "merge",
        "A field that two requests have changed through a mapping: `merge` adds up whole numbers, else the last wins and a "
        "signal tells; `raise` answers 409. What collides elsewhere is an error always.",
        choices=("merge", "raise"),
    )
    conversation_prefix: str = _setting(
        "", "What the keys of `save_message` begin with, as `PREFIX`, and another; empty: `PREFIX` and `conversation:`."
    )
    conversation_ttl: float = _setting(
        7 * DAY, "How long a conversation of `save_message` lives from its last interaction.", minimum=1, maximum=YEARS
    )
    anonymous_owner: bool = _setting(
        False,
        "Whether a browser that nobody has logged in with is an owner by itself, by a signed cookie (needs `SECRET_KEY`).",
    )
    max_sessions: int = _setting(50, "The most sessions of an owner; 0: any number.", maximum=1e6)
    sessions_policy: str = _setting(
        "oldest",
        "What happens when an owner with so many starts another one: `oldest` deletes the one with the oldest interaction, "
        "`reject` answers 409.",
        choices=("oldest", "reject"),
    )
    turn_policy: str = _setting(
        "reject",
        "A turn while another is in progress: `reject` answers 409, `wait` waits its turn, `supersede` takes over.",
        choices=("reject", "wait", "supersede"),
    )
    max_turns_per_minute: int = _setting(
        0, "The most turns, and starts, of an owner in a minute; over it: 429. 0: any number.", maximum=1e6
    )
    turn_wait: float = _setting(30.0, "How long `wait` waits; it occupies its worker.", maximum=3600)
    turn_lease: float = _setting(30.0, "How long the turn of a dead worker stays taken.", minimum=0.1, maximum=3600)
    max_tokens: int = _setting(
        1000, "How many of a session's last writes, at least, can be repeated harmlessly.", minimum=1, maximum=1e5
    )
    connect_timeout: float = _setting(2.0, "How long to wait for a connection.", minimum=0.001, maximum=3600)
    command_timeout: float = _setting(3.0, "How long to wait for an answer.", minimum=0.001, maximum=3600)
    durability: str = _setting(
        "primary",
        "What an acknowledged write is worth: `primary`, the server has it; `fsync`, its disk has it (appendfsync always is "
        "verified); `replicas:n`, so many replicas have it too.",
    )
    budget: float = _setting(5.0, "The longest that a call takes in all, retries included.", minimum=0.01, maximum=3600)
    max_connections: int = _setting(
        10_000, "The most connections of a process: one for each thread that calls at the same moment.", minimum=1
    )
    circuit_failures: int = _setting(
        5,
        "After so many calls in a row without an answer calls fail at once; one tries again after 1, 2, 4 … 32 s.",
        minimum=1,
    )
    fallback: str = _setting(
        "journal",
        "Where sessions are started while the server is away: `journal` (a file in the instance folder, shared by the "
        "workers of a host, replayed later), `memory` (this process, lost with it), `none` (503).",
        choices=("journal", "memory", "none"),
    )
    journal_max_bytes: int = _setting(2**28, "The largest journal; over it: 503.", minimum=2**16, maximum=2**40)
    retries: int = _setting(
        3, "How often a call is repeated when no answer came; exponential, with jitter.", maximum=100
    )
    routes: bool | tuple[str, ...] = _setting(
        True, "The blueprint's endpoints that there are: all, none, or these, such as `start_session, get_session`."
    )
    client_roles: tuple[str, ...] = _setting(("user",), "The roles that HTTP clients may write.")
    client_data: bool | tuple[str, ...] = _setting(
        True, "The data fields that HTTP clients may set: all, none, or these."
    )
    client_ttl: bool = _setting(False, "Whether HTTP clients may give a session its lifetime.")
    visible_roles: tuple[str, ...] = _setting(
        ("user", "assistant", "tool"), "The roles whose messages HTTP clients see. A message without a role is seen."
    )

    def __post_init__(self) -> None:
        problems = [problem for name in fields(self) for problem in _problems(name, getattr(self, name.name))]
        for name, prefix in (("PREFIX", self.prefix), ("CONVERSATION_PREFIX", self.conversation_prefix)):
            if any(not character.isprintable() or character in "{}" for character in prefix):
                problems.append(
                    f"{name} holds a brace or a control character: choose plain text, such as 'chat:session:'"
                )
        if _overlap(self.prefix, self.conversation_prefix):
            problems.append("CONVERSATION_PREFIX and PREFIX would share keys: choose another one")
        problems += url_problems(self.url)
        if not self.client_roles:
            problems.append("CLIENT_ROLES is empty: name the roles that clients may write, such as 'user'")
        if not re.fullmatch(r"primary|fsync|replicas:[1-9]\d?", self.durability):
            problems.append(f"DURABILITY must be primary, fsync or replicas:n, n from 1 to 99, not {self.durability!r}")
        if not self.history_key:
            problems.append("HISTORY_KEY is empty: name the key that holds the messages, such as 'history'")
        if problems:
            raise ConfigurationError(problems)

    def __hash__(self) -> int:
        return hash((self.url, self.prefix))  # of all fields it takes longer, and each request looks a schema up by it

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What keys begin with, in all."""
        return (self.prefix, self.conversation_prefix) if self.conversation_prefix else (self.prefix,)


BESIDE = ("owner:", "alias:", "map:", "conversation:")
"""What follows a prefix where something lies beside its sessions."""


def _overlap(one: str, other: str) -> bool:
    """Whether keys that begin with the one prefix may be those of the other."""
    return one == other or any(
        long.startswith(short + word) for long, short in ((one, other), (other, one)) for word in BESIDE if short
    )


def share_keys(one: Settings, other: Settings) -> bool:
    """Whether two stores on one server would share keys."""
    return any(_overlap(first, second) for first in one.prefixes for second in other.prefixes)


def limits_of(settings: Settings) -> Limits:
    """What *settings* say about how long sessions live, and how large they may get."""
    return Limits(
        ttl_ms=round(settings.ttl * 1000),
        ttl_complete_ms=round(settings.ttl_complete * 1000),
        max_age_ms=round(settings.max_age * 1000),
        tombstone_ms=TOMBSTONE_MS,
        max_tokens=settings.max_tokens,
        max_history=settings.max_history,
        trim=settings.history_policy == "trim",
        max_data_bytes=settings.max_data_bytes,
        max_session_bytes=settings.max_session_bytes,
        max_sessions=settings.max_sessions,
        evict=settings.sessions_policy == "oldest",
    )


def load_settings(
    config: Mapping[str, Any],
    environ: Mapping[str, str],
    prefix: str = "CONVSTORE",
    *,
    endpoints: Collection[str] = (),
) -> Settings:
    """The settings of an app whose names begin with *prefix*.

    Args:
        endpoints: Names that ``CONVSTORE_ROUTES`` may hold. Only the HTTP door knows them, which lies above.

    Raises:
        ConfigurationError: Unknown names in *config* and bad values, all of them together. An unknown name in the
            environment is only warned of: others write there too.
    """
    declared = {f"{prefix}_{setting.name.upper()}": setting for setting in fields(Settings)}
    problems = [_unknown(key, declared) for key in config if key.startswith(f"{prefix}_") and key not in declared]
    for key in environ:
        if key.startswith(f"{prefix}_") and key not in declared:
            _log.warning("in the environment, %s", _unknown(key, declared))

    values, common_problems = _common_names(environ)
    if prefix != "CONVSTORE":  # a second store lies beside the first one, unless it is told otherwise
        url = config.get("CONVSTORE_URL") or environ.get("CONVSTORE_URL")
        values.update({"url": url} if isinstance(url, str) else {})
    problems += common_problems
    for key, setting in declared.items():
        given = config.get(key)
        try:
            if given is not None:
                values[setting.name] = _converted(given, setting)
            elif given := environ.get(key):
                values[setting.name] = _parsed(given, setting)
        except ValueError:
            shown = "" if setting.metadata["secret"] else f", not {given!r}"
            problems.append(f"{key} must be {_KINDS[str(setting.type)]}{shown}")
            values.pop(setting.name, None)
    try:
        settings = Settings(**values)
    except ConfigurationError as error:
        problems += [f"{prefix}_{problem}" for problem in error.problems]
    problems += [
        f"{prefix}_ROUTES names {route!r}, which is no endpoint: choose from {', '.join(endpoints)}"
        for route in _names(values.get("routes"))
        if route not in endpoints
    ]
    if problems:
        raise ConfigurationError(problems)
    return settings


def _names(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _unknown(key: str, declared: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, declared, n=1, cutoff=0.7)
    return f"{key} is no setting" + (f": did you mean {near[0]}?" if near else "")


def _common_names(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """URL and TTL from the names that apps without this package use, and what is wrong with them."""
    values: dict[str, Any] = {}
    problems = []
    if environ.get("REDIS_URL"):
        values["url"] = environ["REDIS_URL"]
    elif any(environ.get(f"REDIS_{part}") for part in ("HOST", "PORT", "PASSWORD", "DB")):
        host = environ.get("REDIS_HOST") or "localhost"
        host = f"[{host}]" if ":" in host else host
        port = environ.get("REDIS_PORT") or "6379"
        # Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 beside a service named redis.
        port = port.rpartition(":")[2]
        password = quote(environ.get("REDIS_PASSWORD", ""), safe="")
        credentials = f":{password}@" if password else ""
        values["url"] = f"redis://{credentials}{host}:{port}/{environ.get('REDIS_DB') or 0}"
    if environ.get("REDIS_CONVERSATION_TTL"):
        try:
            values["ttl"] = float(environ["REDIS_CONVERSATION_TTL"])
        except ValueError:
            problems.append(f"REDIS_CONVERSATION_TTL must be a number, not {environ['REDIS_CONVERSATION_TTL']!r}")
    return values, problems


def _converted(value: object, setting: Field[Any]) -> Any:
    """*value* from app.config as the setting's type; ValueError if it is of another one."""
    if isinstance(value, str):
        return _parsed(value, setting)
    kind = str(setting.type)
    if isinstance(value, bool):
        if "bool" in kind:
            return value
    elif (isinstance(value, int) and kind in ("int", "float")) or (isinstance(value, float) and kind == "float"):
        return value
    elif "tuple" in kind and isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError


def _parsed(text: str, setting: Field[Any]) -> Any:
    """*text* as the setting's type; ValueError if it is none."""
    kind = str(setting.type)
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if "bool" in kind:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        if kind == "bool":
            raise ValueError
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _problems(setting: Field[Any], value: Any) -> list[str]:
    choices = setting.metadata["choices"]
    if choices and value not in choices:
        return [f"{setting.name.upper()} must be one of {', '.join(choices)}, not {value!r}"]
    if setting.type not in ("int", "float"):
        return []
    minimum, maximum = setting.metadata["minimum"], setting.metadata["maximum"]
    if minimum <= value <= maximum:
        return []
    return [f"{setting.name.upper()} must be {minimum:.12g} to {maximum:.12g}, not {value!r}"]
