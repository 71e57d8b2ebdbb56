"""Sessions in Redis or Valkey: keys, bytes <> values.

| key                    | type | holds                                                                                     |
| ---------------------- | ---- | ----------------------------------------------------------------------------------------- |
| {prefix}{<id>}         | hash | version, history_version, count, first (seq), shape, created, updated, owner, title, ttl; |
|                        |      | history_bytes, data_bytes; turn (whose attempt has it), turn_until, turn_seq;             |
|                        |      | d:<field> = JSON text of a data field; indexed (when its index heard of it last);         |
|                        |      | a:<owner>:<alias> where one was led here; moved_to (the session where it goes on);        |
|                        |      | s:<owner> = role of another owner; tokens_in, tokens_out                                  |
| {prefix}{<id>}:history | list | elements, oldest first: version byte, envelope, newline, body; seq = first + index        |
| {prefix}{<id>}:tokens  | hash | t:<token> = receipt; writes, owner, ended; outlives the session as its tombstone          |
| {prefix}alias:{<owner>:<alias>} | string | the id of the session that it leads to                                  |

``history_version`` is the version at the last change of the messages. The id stands in braces in the real key: one session
is one Cluster slot. It is percent-encoded there, so that no id reaches into another's keys. ``redis_index`` has the owners'.

A write is one script, one round trip; a start that needs one of its owner's places asks for that in another before. A read
is one MULTI/EXEC of the touch script, HGETALL and LRANGE, one round trip too: a list is sent as it is instead of being
converted twice by Lua.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Sequence
from typing import Any, get_args
from urllib.parse import quote, unquote

import redis

from .commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Edit,
    Extend,
    FieldChange,
    LinkAlias,
    RenewTurn,
    Rewrite,
    Save,
    Share,
    Touch,
    Write,
)
from .errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    Forbidden,
    MessageNotFound,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreMisconfigured,
    TokenReused,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from .failures import as_ours
from .messages import NO_USAGE, Usage
from .models import ANY, About, Alias, Begun, Limits, Messages, Owner, Page, Receipt, Scope, Shape, Snapshot
from .redis_calls import PATIENCE, PRIMARY, Argument, Call, Calls, Durability, Patience, refusal_among
from .redis_cluster import ClusterCalls, LazyCluster
from .redis_index import Place, RedisIndex
from .times import LATEST_MS

_log = logging.getLogger("flask_convstore")

_SHAPES = get_args(Shape)
_NUMBERS = (b"version", b"created", b"updated", b"count", b"first", b"history_version")


class RedisStore:
    """A ``Store`` on a redis-py client, or a cluster of them, that gives back bytes; its methods are those of ``Store``.

    Args:
        client: Connects when it is first used.
        prefix: What every key begins with.
        limits: How long sessions live, and how large they may get.
        patience: How long calls may take.
        durability: What an acknowledged write is worth.
    """

    def __init__(
        self,
        client: redis.Redis | LazyCluster,
        prefix: str,
        limits: Limits,
        patience: Patience = PATIENCE,
        durability: Durability = PRIMARY,
    ) -> None:
        self._calls = (
            ClusterCalls(client, patience, durability)
            if isinstance(client, LazyCluster)
            else Calls(client, patience, durability)
        )
        self._level = durability.level
        self._prefix = prefix
        self._limits = limits
        self._index = RedisIndex(
            self._calls, prefix, limits.max_age_ms, lambda session_id: self._keys(session_id)[0], _in_key
        )
        self._longest_ms, self._tombstone_ms = max(limits.ttl_ms, limits.ttl_complete_ms), limits.tombstone_ms
        self._times = _as_bytes(limits.ttl_ms, limits.ttl_complete_ms, limits.max_age_ms, limits.tombstone_ms)
        self._bounds = _as_bytes(
            limits.max_tokens,
            limits.max_history,
            int(limits.trim),
            limits.max_data_bytes,
            limits.max_session_bytes,
        )

    def apply(self, command: Command) -> Receipt:
        if isinstance(command, (Touch, RenewTurn, Share)):
            return self._kept(command)
        keys = self._keys(command.session_id)
        name, arguments = _writing(command)
        call = Call(name, keys, (*self._head(command), *arguments))
        reply = self._created(command, call) if isinstance(command, Save) else self._calls.call(call)
        if reply[0] != b"ok":
            _refuse(command, reply, keys)
            return _first_receipt(reply, reply[2], keys[2], self._level)
        receipt = _receipt(reply, self._level)
        if isinstance(command, Delete):
            self._give_back(command.session_id, reply[8][0], receipt)
        elif reply[8]:
            self._spread(command.session_id, receipt.lifetime_ms, reply[8])
        return receipt

    def _kept(self, command: Touch | RenewTurn | Share) -> Receipt:
        keys = self._keys(command.session_id)
        name, arguments = _keeping(command)
        sets = isinstance(command, Share) or (
            isinstance(command, Touch) and bool(command.ttl_ms or command.led_by or command.left_by)
        )
        call = Call(name, keys, (_owner_argument(command.owner), *self._times, *arguments), writes=sets)
        reply = self._calls.call(call)
        _refuse(command, reply, keys)
        version, created, updated, expires, lifetime, *due = reply[2:]
        if due and due[0]:
            self._spread(command.session_id, lifetime, due[0])
        return Receipt(version, None, False, self._level, created, updated, expires, lifetime, None)

    def begin(self, command: BeginTurn) -> Begun:
        keys = self._keys(command.session_id)
        arguments: list[Argument] = [command.expected, command.lease_ms, int(command.supersede), command.attempt]
        arguments += _facts(command)
        arguments += [command.element] if command.element else []
        queries = _reading(keys, command.last)
        reply, *found = self._calls.call(Call("begin_turn", keys, (*self._head(command), *arguments)), queries)
        if reply[0] == b"ok":
            now_begun = _snapshot(command.session_id, keys, found, command.last, reply[6])
            receipt = _receipt(reply, self._level)
            if reply[8]:
                self._spread(command.session_id, receipt.lifetime_ms, reply[8])
            return Begun(receipt, now_begun)
        _refuse(command, reply, keys)
        receipt = _first_receipt(reply, reply[2], keys[2], self._level)
        ended = _first_receipt(reply, reply[6], keys[2], self._level) if len(reply) > 6 and reply[6] else None
        gone = not receipt.expires_at_ms
        return Begun(
            receipt,
            snapshot=None if gone else _snapshot(command.session_id, keys, found, command.last, reply[5]),
            reply=ended,
        )

    def load(
        self, session_id: str, owner: Owner, last: int | None = None, *, is_interaction: bool = True
    ) -> Snapshot | None:
        keys = self._keys(session_id)
        arguments: tuple[Argument, ...] = ("", "", int(not is_interaction), "", "")
        touch = Call("touch", keys, (_owner_argument(owner), *self._times, *arguments), writes=False)
        reply, *found = self._calls.call(touch, _reading(keys, last))
        if reply[0] == b"missing":
            return None
        _refuse(None, reply, keys)
        snapshot = _snapshot(session_id, keys, found, last, reply[5])
        if reply[7]:
            self._spread(session_id, reply[6], reply[7])
        return snapshot

    def spend(self, owner: str, most: int) -> int:
        bucket = f"{self._prefix}owner:{{{_in_key(owner)}}}:bucket"
        return int(self._calls.call(Call("spend", (bucket,), (most,)))[2])

    def turn_remaining_ms(self, session_id: str, owner: Owner) -> int:
        asked = (_owner_argument(owner), self._limits.max_age_ms)
        keys = self._keys(session_id)
        reply = self._calls.call(Call("turn_state", keys[:1], asked, writes=False))
        if reply[0] == b"missing":
            raise SessionNotFound(session_id)
        _refuse(None, reply, keys)
        return int(reply[2])

    def page(self, owner: Owner, cursor: str | None = None, limit: int = 100, *, newest_first: bool = False) -> Page:
        return self._index.page(owner, cursor, limit, newest_first)

    def link(self, command: LinkAlias) -> str | None:
        expected = "*" if command.expected is ANY else "" if command.expected is None else f"={command.expected}"
        arguments = (expected, command.session_id or "", command.lifetime_ms)
        reply = self._calls.call(Call("link", (self._alias(_alias_text(command.alias)),), arguments))
        return reply[2].decode() or None

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        reply = self._calls.call(Call("follow", (self._alias(_alias_text(alias)),), (lifetime_ms,), writes=False))
        return reply[2].decode() or None

    def messages(self, session_id: str, owner: Owner, before: int | None, limit: int) -> Messages | None:
        keys = self._keys(session_id)
        asked = (_owner_argument(owner), *self._times, "" if before is None else before, limit)
        reply = self._calls.call(Call("messages", keys, asked, writes=False))
        if reply[0] == b"missing":
            return None
        _refuse(None, reply, keys)
        return Messages(reply[7], reply[3], reply[4], reply[6].decode() or None)

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        key, _, tokens = self._keys(session_id)
        # Not at one moment: a session that starts between the two was not there when this was asked.
        replies = self._calls.commands([("EXISTS", key), ("HGET", tokens, "owner")])
        refusal = refusal_among(replies)
        if refusal:
            raise as_ours(refusal, tokens, writes=False) from refusal
        exists, whose = replies
        return not exists and whose is not None and owner in (ANY, whose.decode()[1:] or None)

    def ping(self) -> float:
        started = time.perf_counter()
        self._calls.command("PING")
        return (time.perf_counter() - started) * 1000

    def about(self) -> About:
        try:
            lines = self._calls.command("INFO").decode().splitlines()
        except StoreMisconfigured:
            return About(None, None, None)  # some managed services forbid it
        said = dict(line.split(":", 1) for line in lines if ":" in line)
        server = "valkey" if "valkey_version" in said else "redis"
        role = {"master": "primary", "slave": "replica"}.get(said.get("role", ""))
        return About(server, said.get(f"{server}_version"), role)

    def close(self) -> None:
        self._calls.close()

    # ---- keys and arguments

    def _keys(self, session_id: str) -> tuple[str, str, str]:
        key = f"{self._prefix}{{{_in_key(session_id)}}}"
        return key, f"{key}:history", f"{key}:tokens"

    def _alias(self, text: str) -> str:
        return f"{self._prefix}alias:{{{text}}}"

    def _head(self, command: Write) -> tuple[Argument, ...]:
        """The arguments that every write has, after the nonce."""
        return (_owner_argument(command.owner), *self._times, command.token, command.digest, *self._bounds)

    # ---- the owner's index

    def _created(self, command: Save, call: Call) -> Any:
        """The reply to *command*, which may create a session: behind its entry, and with a place where they are counted."""
        if command.mode == "merge":
            return self._calls.call(call)
        lifetime = max(command.ttl_ms or 0, self._longest_ms) + self._tombstone_ms
        owner = None if isinstance(command.owner, Scope) else command.owner
        most = self._limits.max_sessions
        is_counted = command.counts and command.started_at_ms is None  # what was acknowledged elsewhere has its place
        if not most or owner is None or not is_counted:
            return self._index.create(self._index.entry(owner, command.session_id, lifetime), call)

        def evict(session_id: str) -> bool:
            if session_id == command.spared:
                return False
            with contextlib.suppress(SessionNotFound):
                self.apply(Delete(session_id=session_id, owner=owner))
            return True

        name, arguments = _writing(command, is_placed=False)
        unplaced = Call(name, call.keys, (*self._head(command), *arguments))
        place = Place(owner, command.session_id, lifetime, most)
        return self._index.create_in_place(place, call, unplaced, evict if self._limits.evict else None)

    def _give_back(self, session_id: str, owner: bytes, receipt: Receipt) -> None:
        """The place of a session that was deleted. Where places are not counted, pages and samples give it back."""
        if not self._limits.max_sessions or not owner:
            return
        at, created = receipt.updated_at_ms, receipt.created_at_ms
        try:
            # An entry of this very moment is that of a successor, unless the session has lived so shortly.
            self._index.removed(owner.decode()[1:], session_id, at if created >= at else at - 1)
        except ConvstoreError as error:
            _log.warning("the index was not told that %s was deleted: %s", self._keys(session_id)[0], error)

    def _spread(self, session_id: str, lifetime: int, due: Sequence[bytes]) -> None:
        """Tell the owner's index and the aliases of an interaction, as a script says that it is *due*.

        What was asked for is done already: a failure is logged, and made good a minute later.
        """
        owner, *aliases = due
        longer = max(0, lifetime) + self._tombstone_ms
        try:
            self._calls.call(self._index.entry(owner.decode()[1:] or None, session_id, longer))
            for alias in aliases:
                self._calls.call(Call("follow", (self._alias(alias.decode()),), (longer,), writes=False))
        except ConvstoreError as error:
            _log.warning("the index of %s was not told of an interaction: %s", self._keys(session_id)[0], error)


def _reading(keys: tuple[str, str, str], last: int | None) -> list[Sequence[Argument]]:
    """What is read of a session, besides what its script replies."""
    if last == 0:  # LRANGE -0 -1 would be everything
        return [("HGETALL", keys[0])]
    return [("HGETALL", keys[0]), ("LRANGE", keys[1], 0 if last is None else -last, -1)]


def _keeping(command: Touch | RenewTurn | Share) -> tuple[str, list[Argument]]:
    """The script that needs no token, and what it gets after the lifetimes."""
    if isinstance(command, Share):
        return "share", [command.name, command.role or ""]
    if isinstance(command, Touch):
        led_by, left_by = ((alias and _alias_text(alias)) or "" for alias in (command.led_by, command.left_by))
        return "touch", [command.created_at_ms or "", command.ttl_ms or "", 0, led_by, left_by]
    return "renew_turn", [command.turn, command.lease_ms]


def _facts(command: Save | Append | BeginTurn) -> tuple[str, str]:
    """The title and the usage that a command tells, as ``_facts.lua`` has them."""
    title = _title(command) if isinstance(command, Append) else ""
    if not title and command.first_title:
        title = f"?{command.first_title}"
    return title, _usage(command.usage) if command.usage else ""


def _title(command: Append | Edit) -> str:
    if command.title is None:
        return ""
    return f"={command.title}" if command.title else "-"


def _usage(usage: Usage | None) -> str:
    return f"{usage.input} {usage.output}" if usage else ""


def _writing(
    command: Save | Append | Delete | CommitTurn | Edit, *, is_placed: bool = True
) -> tuple[str, list[Argument]]:
    """The script for a write, and what it gets after the arguments that every write has."""
    head: list[Argument]
    if isinstance(command, Append):
        head = [command.created_at_ms or "", command.expected, command.ttl_ms or "", *_facts(command)]
        head.append(len(command.fields))
        for name, value in command.fields:
            head += (name, value or b"")
        return "append", [*head, *command.elements]
    if isinstance(command, Edit):
        created = command.created_at_ms or ""
        return "edit", [created, command.expected, command.seq, command.loaded, command.element, _title(command)]
    if isinstance(command, CommitTurn):
        fields = _triples(command.fields)
        what = (command.turn, command.status, command.moved_to, command.expected, _usage(command.usage))
        return "commit_turn", [*what, len(command.fields), *fields, *command.elements]
    if isinstance(command, Save):
        change, bound, elements = _history_arguments(command.history)
        head = [command.mode, command.created_at_ms or "", command.shape or "", command.ttl_ms or "", change, bound]
        head += [command.started_at_ms or "", *_facts(command), command.earlier_token, int(is_placed)]
        return "save", [*head, len(command.fields), *_triples(command.fields), *elements]
    return "delete", [command.expected, command.created_at_ms or "", command.at_ms or ""]


def _triples(fields: Sequence[FieldChange]) -> list[Argument]:
    return [part for name, loaded, value in fields for part in (name, loaded or b"", value or b"")]


def _history_arguments(change: Extend | Rewrite | None) -> tuple[str, int, tuple[bytes, ...]]:
    if change is None:
        return "keep", 0, ()
    if isinstance(change, Extend):
        return "extend", change.drop_below, change.elements
    if change.elements is None:
        return "remove", change.history_version, ()
    return "rewrite", change.history_version, change.elements


def _receipt(reply: list[Any], level: str) -> Receipt:
    version, first_seq, created, updated, expires, history_version = reply[2:8]
    lifetime = expires - updated
    return Receipt(version, first_seq or None, False, level, created, updated, expires, lifetime, history_version)


def _first_receipt(reply: list[Any], kept: bytes, key: str, level: str) -> Receipt:
    """The receipt *kept* under a token: ``version first_seq at history_version_before lifetime digest``."""
    try:
        version, first_seq, at, history_version, lifetime = map(int, kept.split(b" ", 5)[:5])
    except ValueError:
        raise CorruptValue(key, "it holds a receipt that is not ours") from None
    created, _, expires = reply[3:6]
    return Receipt(version, first_seq or None, True, level, created, at, expires, lifetime, history_version)


_TOO_LARGE = {
    b"history": "the session would have too many messages",
    b"data": "the data would be too large in bytes of JSON",
    b"session": "the session would be too large in bytes of JSON",
}


def _refuse(command: Command | BeginTurn | None, reply: list[Any], keys: tuple[str, str, str]) -> None:
    """Raise what a script's *reply* to *command* refuses."""
    word = reply[0]
    if word in (b"ok", b"repeated", b"resumed"):
        return
    if word == b"corrupt" and reply[2] == b"history":
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    if word == b"corrupt" and reply[2] == b"tokens":
        raise CorruptValue(keys[2], "it holds a receipt that is not ours")
    if word == b"corrupt" or command is None:
        raise CorruptValue(keys[0], "it is not a session of flask-convstore")
    if word == b"conflict":
        raise _conflict(command, reply)
    if word == b"reused" and isinstance(command, CommitTurn):
        raise TurnLost(command.session_id)  # another attempt has ended this turn
    if word == b"reused":
        raise TokenReused
    if word == b"too_large":
        raise TooLarge(_TOO_LARGE[reply[2]], limit=reply[3], size=reply[4])
    if word == b"forbidden":
        raise Forbidden(command.session_id)
    if word == b"gone" and isinstance(command, Edit):
        raise MessageNotFound(command.session_id, command.seq)
    if word == b"busy":
        raise TurnInProgress(command.session_id, reply[2])
    if word == b"moved":
        raise SessionMoved(command.session_id, reply[2].decode())
    raise {b"missing": SessionNotFound, b"exists": SessionExists, b"lost": TurnLost}[word](command.session_id)


def _conflict(command: Command | BeginTurn, reply: list[Any]) -> ConflictError:
    expected = getattr(command, "loaded_version", None)
    what = reply[3].decode()
    if what == "version" and isinstance(command, (Append, Delete, BeginTurn, CommitTurn, Edit)):
        expected = int(command.expected.rpartition("-")[2])
    field = what.removeprefix("d:") if what.startswith("d:") else None
    return ConflictError(
        command.session_id, field or what, expected=expected, actual=reply[2], is_field=field is not None
    )


def _snapshot(
    session_id: str, keys: tuple[str, str, str], found: list[Any], last: int | None, expires_at_ms: int
) -> Snapshot:
    """A session from the replies to ``_reading``."""
    flat, *lists = found
    elements = lists[0] if lists else []
    # A connection of the app's own client may give a dict.
    stored: dict[bytes, Any] = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        fields, aliases, shared = _prefixed(stored)
        version, created, updated, count, first, history_version = [int(stored[name]) for name in _NUMBERS]
        shape = stored[b"shape"].decode()
        title = stored[b"title"].decode() if b"title" in stored else None
        own_ttl = stored.get(b"ttl", b"")
        usage = Usage(int(stored[b"tokens_in"]), int(stored[b"tokens_out"])) if b"tokens_in" in stored else NO_USAGE
    except (KeyError, ValueError) as error:
        raise CorruptValue(keys[0], f"it is not a session of flask-convstore ({error!r})") from None
    if shape not in _SHAPES or not 0 < created < LATEST_MS > updated:
        raise CorruptValue(keys[0], "its shape or one of its times is none of ours")
    if len(elements) != (count if last is None else min(count, last)):
        raise CorruptValue(keys[1], f"it does not hold the number of messages that {keys[0]} counts")
    return Snapshot(
        session_id=session_id,
        version=version,
        shape=shape,
        created_at_ms=created,
        updated_at_ms=updated,
        expires_at_ms=expires_at_ms,
        title=title,
        fields=fields,
        elements=elements,
        next_seq=first + count,
        count=count,
        history_version=history_version,
        key=keys[0],
        history_key=keys[1],
        owner=stored[b"owner"].decode()[1:] if b"owner" in stored else None,
        own_ttl_ms=int(own_ttl) if own_ttl.isdigit() else None,
        moved_to=stored[b"moved_to"].decode() if b"moved_to" in stored else None,
        aliases=tuple(sorted(aliases, key=Alias.sort_key)) if aliases else (),
        usage=usage,
        shared=shared,
    )


def _prefixed(stored: dict[bytes, Any]) -> tuple[dict[str, bytes], list[Alias], dict[str, Any]]:
    """What names with a prefix hold: the data fields, the aliases that lead here, the roles of other owners."""
    fields: dict[str, bytes] = {}
    aliases: list[Alias] = []
    shared: dict[str, Any] = {}
    for name in [name for name in stored if name[1:2] == b":"]:
        if name[:1] == b"d":
            fields[name[2:].decode()] = stored[name]
        elif name[:1] == b"a":
            aliases.append(_alias_of(name[2:].decode()))
        elif name[:1] == b"s":
            shared[name[2:].decode()] = stored[name].decode()
    return fields, aliases, shared


def _as_bytes(*numbers: int) -> tuple[bytes, ...]:
    """What goes with every call, packed once."""
    return tuple(str(number).encode() for number in numbers)


def _owner_argument(owner: Owner) -> str:
    return "*" if owner is ANY else "" if owner is None else f"={owner}"


_PLAIN = re.compile(r"[A-Za-z0-9_.~:/@+=,-]+").fullmatch


def _in_key(name: str) -> str:
    return name if _PLAIN(name) else quote(name, safe=":/@+=,")


def _alias_text(alias: Alias) -> str:
    """An alias as keys have it: the first colon parts its owner from its name."""
    return f"{quote(alias.owner or '', safe='')}:{_in_key(alias.name)}"


def _alias_of(text: str) -> Alias:
    owner, _, name = text.partition(":")
    return Alias(unquote(owner) or None, unquote(name))
