"""Sessions in Redis or Valkey: their keys, and the calls that read and write them.

| key                    | type | holds                                                                                     |
| ---------------------- | ---- | ----------------------------------------------------------------------------------------- |
| {prefix}{<id>}         | hash | version, history_version, count, first (seq), shape, created, updated, owner, title, ttl, |
|                        |      | gaps (of the seqs), history_bytes, data_bytes, tokens_in, tokens_out                      |
|                        |      | indexed (when its index heard of it)                                                      |
|                        |      | began (creation that an imported session shows)                                           |
|                        |      | turn (the attempt that has it), turn_until, turn_seq, moved_to (where it goes on)         |
|                        |      | waiting (the attempts in line for the turn, each with the end of its ticket)              |
|                        |      | reply (id of the reply that is streamed in this turn), streams (of the last four) |
|                        |      | replaced, history_replaced (versions at which the content gave way to other content)      |
|                        |      | rewritten (the version at which all messages got other seqs)                              |
|                        |      | d:<field> = JSON text of a data field, s:<owner> = role of another owner                  |
|                        |      | a:<owner>:<alias> for each alias that was led here                                        |
| {prefix}{<id>}:history | list | elements, oldest first: version byte, envelope, newline, body                             |
| {prefix}{<id>}:receipts | hash | t:<token> = receipt, m:<id> = seq and token of a message with an id of its own          |
| {prefix}{<id>}:tokens  | hash | the tombstone, which outlives the session: owner, ended, t:<token> = receipt of a write   |
|                        |      | that could bring it back, asker (who asked where there was none)                         |
| {prefix}{<id>}:wake:<attempt> | list | what tells a turn in waiting that the turn is free, for five seconds |
| {prefix}{<id>}:reply:<reply id> | stream | parts of a streamed reply, of the last four, see ``feed_reply.lua`` |
| {prefix}alias:{<owner>:<alias>} | string | the id of the session that it leads to                                  |

``history_version`` is the version at the last change of the messages. The id stands in braces in the real key, so that one
session is one Cluster slot. It is percent-encoded there, so that no id reaches into another's keys. ``owner_index`` has the
keys of owners, ``figures`` those of figures.

A write is one script and one round trip. A start that needs one of its owner's places asks for that in another one
before. A read is the touch script, LRANGE and HGETALL, in one round trip too. So a list is sent as it is, instead of being
converted twice by Lua. The version that the script tells and that of the hash show that all is of one moment, else it is
read again. What an owner may not see is not read: both commands stand in a transaction then, which watches a key that the
script changes where it finds no session for this owner. A full Redis 7 refuses transactions. There the script is asked
first, and the session is read in another round trip.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import redis

from ...domain.clock import LATEST_MS, hear, monotonic
from ...domain.commands import (
    BeginTurn,
    Command,
    Delete,
    EventPosition,
    FeedReply,
    Harmless,
    LinkAlias,
    Merge,
    Put,
    RenewTurn,
    ReplyPosition,
    TakeReply,
    Target,
    Write,
)
from ...domain.results import (
    HEAD,
    About,
    Begun,
    Lease,
    Messages,
    Page,
    Receipt,
    ReplyParts,
    SessionEvents,
    Snapshot,
    Summary,
    Traces,
)
from ...domain.rules import creates, may_evict, takes_place
from ...domain.types import ANY, Alias, Limits, Order, Owner, Scope
from ...errors import ConvstoreError, SessionNotFound, StoreMisconfigured, StoreUnavailable
from ..store import Bell, one_by_one
from .arguments import (
    alias_of,
    alias_text,
    beginning,
    in_key,
    keeping,
    named,
    owner_argument,
    reading,
    session_key,
    session_keys,
    target_argument,
    writing,
)
from .calls import PATIENCE, PRIMARY, Argument, Call, Calls, Durability, Patience, refusal_among
from .cluster import ClusterCalls, LazyCluster
from .failures import as_ours
from .owner_index import QuotaPlace, RedisIndex
from .replies import (
    each_of,
    first_receipt,
    receipt_of,
    refuse,
    refuse_moved,
    salvaged,
    snapshot_of,
)
from .streams import RedisStreams

_log = logging.getLogger("flask_convstore")

_ATTEMPTS = 5
"""Most attempts to read a session that is deleted and created anew at just that moment."""
_HEARS_EVERY = 64
"""Each so manieth read, from the first on, tells this process the server's time."""
_SCANNED = 1000
"""Keys that the server looks at in one step of a walk."""
_SECONDS_TO_SCRUB = 5.0
"""Longest wait for a rewrite of the embedded server's log that runs already."""


class Spread(NamedTuple):
    """An interaction of which a script says that the owner's index, and the aliases in *due*, must hear."""

    session_id: str
    lifetime_ms: int
    updated_at_ms: int
    due: Sequence[bytes]


class RedisStore:
    """A ``Store`` on a redis-py client or cluster client that returns bytes. See there for its methods.

    Args:
        client: Connects when it is first used.
        prefix: The beginning of every key.
        limits: Lifetimes and sizes of sessions.
        patience: Time limits of calls.
        durability: The worth of an acknowledged write.
        tells_policy: Warn once, behind the first read or write, of a server that evicts keys.
        is_embedded: The server is ours, and so is the log of all writes that it keeps.
    """

    def __init__(
        self,
        client: redis.Redis | LazyCluster,
        prefix: str,
        limits: Limits,
        patience: Patience = PATIENCE,
        durability: Durability = PRIMARY,
        *,
        tells_policy: bool = False,
        is_embedded: bool = False,
    ) -> None:
        self._calls = (
            ClusterCalls(client, patience, durability, limits)
            if isinstance(client, LazyCluster)
            else Calls(client, patience, durability, limits)
        )
        self._level = durability.level
        self._is_embedded = is_embedded
        self._reads = 0
        self._prefix = prefix
        self._tells_policy = tells_policy
        self._limits = limits
        self._index = RedisIndex(self._calls, prefix, limits.max_age_ms)
        self._streams = RedisStreams(self._calls, prefix)
        self._longest_ms, self._tombstone_ms = max(limits.ttl_ms, limits.ttl_complete_ms), limits.tombstone_ms

    def apply(self, command: Command) -> Receipt:
        if isinstance(command, Harmless):
            return self._kept(command)
        keys = session_keys(self._prefix, command.session_id)
        name, arguments = writing(command)
        call = Call(name, keys, (*self._head(command), *arguments))
        if isinstance(command, Put) or (isinstance(command, Merge) and command.creates):
            reply = self._created(command, call)
        else:
            reply = self._calls.call(call)
        if self._tells_policy:
            self._tell_policy()
        spreads: list[Spread] = []
        receipt = self._receipt(command, reply, spreads)
        if spreads:
            self._spread(spreads)
        return receipt

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        answers = dict(self._entered([command for command in commands if creates(command)]))
        together = [command for command in commands if id(command) not in answers]
        replies = self._calls.write_all([self._call_of(command) for command in together])
        spreads: list[Spread] = []

        def receipt(command: Any, reply: Any) -> Receipt:
            if isinstance(command, Harmless):
                return self._kept_as(command, reply, spreads)
            return self._receipt(command, reply, spreads)

        for command, answer in zip(together, each_of(together, replies, receipt), strict=True):
            answers[id(command)] = answer
        self._spread(spreads)
        self._index.created([self._entry(command) for command in together if creates(command)])
        return [answers[id(command)] for command in commands]

    def _call_of(self, command: Command | BeginTurn) -> Call:
        keys = self._keys(command.session_id)
        if isinstance(command, Harmless):
            return self._keeping(command, keys)
        if isinstance(command, BeginTurn):
            return Call("begin_turn", keys, (*self._head(command), *beginning(command)))
        name, arguments = writing(command)
        return Call(name, keys, (*self._head(command), *arguments))

    def _entered(self, commands: Sequence[Put | Merge]) -> Iterator[tuple[int, Receipt | ConvstoreError]]:
        """Write the index entries of sessions that may be created, before these are. Yield the answers that are known then.

        These are errors, and the receipts of what needs a place of its owner's, which takes a call by itself.
        """
        unplaced = [command for command in commands if not self._needs_place(command)]
        for command, error in zip(unplaced, self._index.enter([self._entry(one) for one in unplaced]), strict=True):
            if error:
                yield id(command), error
        placed = [command for command in commands if self._needs_place(command)]
        yield from zip(map(id, placed), one_by_one(self.apply, placed), strict=True)

    def _receipt(self, command: Write, reply: Any, spreads: list[Spread]) -> Receipt:
        """Make the receipt from the *reply* to a write, and tell the index. Add to *spreads* what it is due to hear."""
        if isinstance(reply, ConvstoreError):
            raise reply
        if reply[0] != b"ok":
            keys = self._keys(command.session_id)
            refuse(command, reply, keys)
            return first_receipt(reply, reply[2], keys[2], self._level, self._limits.ttl_ms)
        receipt, due = receipt_of(reply, self._level), reply[8]
        if due or isinstance(command, Put):
            self._tell_index(command, receipt, due, spreads)
        return receipt

    def _tell_index(self, command: Write, receipt: Receipt, due: Sequence[bytes], spreads: list[Spread]) -> None:
        """Tell the owner's index of a write that was done, as far as it has to know."""
        if isinstance(command, Delete):
            self._give_back(command.session_id, due[0], receipt)
        elif due:
            spreads.append(Spread(command.session_id, receipt.lifetime_ms, receipt.updated_at_ms, due))
        if isinstance(command, Put) and command.changed_at_ms is not None:
            owner = None if isinstance(command.owner, Scope) else command.owner
            self._index.date(owner, command.session_id, command.changed_at_ms)

    def _kept(self, command: Harmless) -> Receipt:
        spreads: list[Spread] = []
        reply = self._calls.call(self._keeping(command, self._keys(command.session_id)))
        receipt = self._kept_as(command, reply, spreads)
        self._spread(spreads)
        return receipt

    def _kept_as(self, command: Harmless, reply: Any, spreads: list[Spread]) -> Receipt:
        """Make the receipt from the *reply* to a command without a token."""
        refuse(command, reply, self._keys(command.session_id))
        version, created, updated, expires, lifetime, *due = reply[2:]
        if due and due[0]:
            spreads.append(Spread(command.session_id, lifetime, updated, due[0]))
        return Receipt(
            version=version,
            first_seq=None,
            repeated=False,
            level=self._level,
            created_at_ms=created,
            updated_at_ms=updated,
            expires_at_ms=expires,
            lifetime_ms=lifetime,
            history_version_before=None,
        )

    def _keeping(self, command: Harmless, keys: tuple[str, str, str]) -> Call:
        """Make the call for a command without a token."""
        name, arguments, writes = keeping(command)
        return Call(name, keys, (owner_argument(command.owner), *arguments), writes=writes)

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        calls = [self._keeping(command, self._keys(command.session_id)) for command in commands]
        return each_of(commands, self._calls.call_all(calls), self._refuse)

    def _refuse(self, command: RenewTurn, reply: Any) -> None:
        refuse(command, reply, self._keys(command.session_id))

    def feed(self, commands: Sequence[FeedReply]) -> list[int | ConvstoreError]:
        return self._streams.feed(commands)

    def take_reply(self, command: TakeReply) -> ReplyParts:
        return self._streams.take_reply(command)

    def reply_parts(self, asked: Sequence[ReplyPosition]) -> list[ReplyParts | ConvstoreError]:
        return self._streams.reply_parts(asked)

    def session_events(self, asked: Sequence[EventPosition]) -> list[SessionEvents | ConvstoreError]:
        return self._streams.session_events(asked)

    def watch_list(self, owner: str, session_ids: Sequence[str], watched_ms: int) -> None:
        self._streams.watch_list(owner, session_ids, watched_ms)

    def bell(self) -> Bell:
        return self._streams.bell()

    def place_of(self, session_id: str) -> str:
        return self._calls.place_of(session_key(self._prefix, session_id))

    def begin(self, command: BeginTurn) -> Begun:
        session_id, last = command.session_id, command.last
        keys = self._keys(session_id)
        gate = _gate(keys, None if command.wait_ms else command.owner)  # who waits reads when it has the turn
        call = Call("begin_turn", (*keys, gate) if gate else keys, (*self._head(command), *beginning(command)))
        reply, *found = self._calls.read(call, reading(keys, last, HEAD), gate)
        if reply[0] != b"ok":
            return self._begun_before(command, reply, keys)
        receipt = receipt_of(reply, self._level)
        if _are_of(receipt.version, receipt.created_at_ms, found, gate):
            snapshot: Snapshot | None = snapshot_of(session_id, keys, found, last, reply[6])
        else:
            snapshot = self._loaded_to_begin(command)
        if snapshot is None:
            raise SessionNotFound(session_id)  # it was deleted just behind the beginning of the turn
        if reply[8]:
            self._spread([Spread(session_id, receipt.lifetime_ms, receipt.updated_at_ms, reply[8])])
        return Begun(receipt, snapshot)

    def _loaded_to_begin(self, command: BeginTurn) -> Snapshot | None:
        """Read all of a session that another one has written to just behind the beginning of a turn.

        The turn has begun already. An error says that its message was stored.
        """
        last = 0 if command.last == 0 else None
        try:
            snapshot = self.load(command.session_id, command.owner, last, is_interaction=False)
        except StoreUnavailable as error:
            raise type(error)(error.reason, written=True, is_down=error.is_down) from error
        except ConvstoreError as error:
            error.written = True
            raise
        if snapshot and command.last is not None:
            snapshot.head = snapshot.elements[:HEAD]
        return snapshot

    def _begun_before(self, command: BeginTurn, reply: list[Any], keys: tuple[str, str, str]) -> Begun:
        """Read the reply to a turn that had begun before, or raise the error for a refused one."""
        refuse(command, reply, keys)
        receipt = first_receipt(reply, reply[2], keys[2], self._level, self._limits.ttl_ms)
        ended = (
            first_receipt(reply, reply[6], keys[2], self._level, self._limits.ttl_ms)
            if len(reply) > 6 and reply[6]
            else None
        )
        is_gone = not receipt.expires_at_ms
        # The session may have changed since, and the reply does not tell its version.
        snapshot = None if is_gone else self._loaded_to_begin(command)
        return Begun(receipt, snapshot, reply=ended, token=reply[7].decode())

    def load(
        self,
        session_id: str,
        owner: Owner,
        last: int | None = None,
        *,
        is_interaction: bool = True,
        fields: Sequence[str] | None = None,
    ) -> Snapshot | None:
        keys = self._keys(session_id)
        gate = _gate(keys, owner)
        call, queries = self._touching(keys, gate, owner, is_interaction), reading(keys, last, fields=fields)
        for _ in range(_ATTEMPTS):
            reply, *found = self._calls.read(call, queries, gate)
            if fields is not None and found:
                found[-1] = named(found[-1], fields)
            if reply[0] != b"ok" or _are_of(reply[2], reply[3], found, gate):
                return _marked(self._loaded(session_id, keys, reply, found, last), fields)
            # A full server runs nothing behind a gate though the script has let this owner pass. A server that serves others
            # between two commands needs the transaction that stands behind a gate.
            gate = f"{keys[0]}:gate" if found else None
        if found and _state_of(found[-1]) is None:
            snapshot_of(session_id, keys, found, last, 0)  # raises, since it is damaged
        raise StoreUnavailable("others write to this session all the time", written=False)

    def load_many(
        self, session_ids: Sequence[str], owner: Owner, *, is_interaction: bool = True
    ) -> list[Snapshot | ConvstoreError | None]:
        places = [(session_id, self._keys(session_id)) for session_id in session_ids]
        gates = [_gate(keys, owner) for _, keys in places]
        asked = [
            (self._touching(keys, gate, owner, is_interaction), reading(keys, None), gate)
            for (_, keys), gate in zip(places, gates, strict=True)
        ]
        found: list[Snapshot | ConvstoreError | None] = []
        for (session_id, keys), gate, replies in zip(places, gates, self._calls.read_each(asked), strict=True):
            try:
                if isinstance(replies, ConvstoreError):
                    raise replies
                reply, *read = replies
                if reply[0] != b"ok" or _are_of(reply[2], reply[3], read, gate):
                    found.append(self._loaded(session_id, keys, reply, read, None))
                else:
                    found.append(self.load(session_id, owner, is_interaction=is_interaction))
            except StoreUnavailable:
                raise
            except ConvstoreError as error:
                found.append(error)
        return found

    def _touching(self, keys: tuple[str, str, str], gate: str | None, owner: Owner, is_interaction: bool) -> Call:
        """The call with which each read begins."""
        arguments = (owner_argument(owner), "", "", "0" if is_interaction else "1")
        return Call("touch", (*keys, gate) if gate else keys, arguments, writes=False)

    def _loaded(
        self, session_id: str, keys: tuple[str, str, str], reply: list[Any], found: list[Any], last: int | None
    ) -> Snapshot | None:
        if self._tells_policy:
            self._tell_policy()
        if reply[0] == b"missing":
            return None
        if reply[0] != b"ok":
            refuse_moved(session_id, reply)
            refuse(None, reply, keys)
        snapshot = snapshot_of(session_id, keys, found, last, reply[5])
        if self._reads % _HEARS_EVERY == 0:
            hear(reply[5] - reply[6])
        self._reads += 1
        if reply[7]:
            self._spread([Spread(session_id, reply[6], reply[4], reply[7])])
        return snapshot

    def spend(self, owner: str, most: int) -> int:
        return int(self._calls.call(Call("spend", (self._bucket(owner),), (most,)))[2])

    def traces(self, owner: str, cursor: str | None = None) -> Traces:
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "*{*}"
        following, found = self._calls.scan(cursor, pattern, _SCANNED)
        keys = [key.decode(errors="replace") for key in found]
        led = self._alias("")[:-1]
        aliases = [alias_of(key[len(led) : -1]) for key in keys if key.startswith(led)]
        own, shared = self._sessions_of(owner, [key for key in keys if key.startswith(f"{self._prefix}{{")])
        return Traces(own, [alias for alias in aliases if alias.owner == owner], shared, following)

    def _sessions_of(self, owner: str, keys: Sequence[str]) -> tuple[list[str], list[str]]:
        """Select by their keys the sessions that *owner* has, and those that *owner* shares. Return their ids."""
        replies = self._calls.commands([("HMGET", key, "owner", f"s:{owner}") for key in keys]) if keys else []
        named = owner_argument(owner).encode()
        own: list[str] = []
        shared: list[str] = []
        for key, reply in zip(keys, replies, strict=True):
            found, share = reply if isinstance(reply, list) else (None, None)
            if found == named or share is not None:
                (own if found == named else shared).append(unquote(key[len(self._prefix) + 1 : -1]))
        return own, shared

    def note_forgotten(self, owner: str) -> None:
        lifetime = self._longest_ms + self._tombstone_ms
        self._calls.call(Call("forget", (self._forgotten(owner),), (f"{lifetime}",)))

    def forgotten_at_ms(self, owners: Sequence[str]) -> dict[str, int]:
        replies = self._calls.commands([("GET", self._forgotten(owner)) for owner in owners]) if owners else []
        refusal = refusal_among(replies)
        if refusal:
            raise as_ours(refusal, self._forgotten(owners[0]), writes=False) from refusal
        return {owner: int(found) for owner, found in zip(owners, replies, strict=True) if found is not None}

    def forget_owner(self, owner: str, ended: Sequence[tuple[str, int]]) -> None:
        self._calls.command("UNLINK", self._bucket(owner))
        self._index.removed_all(owner, ended)

    def journalled(self, owner: str) -> list[str]:
        return []

    def scrub(self) -> None:
        """Have the embedded server write its log anew. A rewrite that runs may have begun before, so this waits for it."""
        if not self._is_embedded:
            return
        deadline = monotonic() + _SECONDS_TO_SCRUB
        while True:
            try:
                (reply,) = self._calls.commands([("BGREWRITEAOF",)])
            except ConvstoreError as error:
                reply = error
            if not isinstance(reply, Exception):
                return
            if monotonic() > deadline:
                _log.warning("removed text may be left in the log of the embedded server: %s", reply)
                return
            time.sleep(0.02)

    def turn_lease(self, session_id: str, owner: Owner) -> Lease:
        keys = self._keys(session_id)
        reply = self._calls.call(self._asking_for_turn(session_id, owner))
        if reply[0] == b"missing":
            raise SessionNotFound(session_id)
        refuse_moved(session_id, reply)
        refuse(None, reply, keys)
        return Lease(reply[3].decode(), int(reply[2]))

    def wait_for_turn(self, session_id: str, attempt: str, seconds: float) -> bool:
        """Wait at a list that the end of a turn pushes to, see ``_wake.lua``."""
        return self._calls.wait(f"{self._keys(session_id)[0]}:wake:{attempt}", seconds)

    def page(
        self,
        owner: Owner,
        cursor: str | None = None,
        limit: int = 100,
        *,
        newest_first: bool = False,
        order: Order = "active",
    ) -> Page:
        return self._index.page(owner, cursor, limit, newest_first, order)

    def link(self, command: LinkAlias) -> str | None:
        return self.link_all([command])[0]

    def link_all(self, commands: Sequence[LinkAlias]) -> list[str | None]:
        return self._led([self._linking(command) for command in commands])

    def follow(self, alias: Alias, lifetime_ms: int) -> str | None:
        return self.follow_all([alias], lifetime_ms)[0]

    def follow_all(self, aliases: Sequence[Alias], lifetime_ms: int) -> list[str | None]:
        keys = [self._alias(alias_text(alias)) for alias in aliases]
        return self._led([Call("follow", (key,), (lifetime_ms,), writes=False) for key in keys])

    def _linking(self, command: LinkAlias) -> Call:
        expected = "*" if command.expected is ANY else "" if command.expected is None else f"={command.expected}"
        arguments = (expected, command.session_id or "", command.lifetime_ms)
        return Call("link", (self._alias(alias_text(command.alias)),), arguments)

    def _led(self, calls: Sequence[Call]) -> list[str | None]:
        """Run scripts of aliases. Return the ids to which these lead."""
        replies = [self._calls.call(calls[0])] if len(calls) == 1 else self._calls.call_all(calls)
        for reply in replies:
            if isinstance(reply, ConvstoreError):
                raise reply
        return [reply[2].decode() or None for reply in replies]

    def messages(
        self, session_id: str, owner: Owner, before: int | None, limit: int, after: int | None = None
    ) -> Messages | None:
        keys = self._keys(session_id)
        bounds = ("" if before is None else before, limit, "" if after is None else after)
        asked = (owner_argument(owner), *bounds)
        reply = self._calls.call(Call("messages", keys, asked, writes=False))
        if reply[0] == b"missing":
            return None
        refuse_moved(session_id, reply)
        refuse(None, reply, keys)
        (start, oldest, expires), (elements, count, seqs, created) = reply[3:6], reply[7:11]
        seqs = seqs or range(oldest + start, oldest + start + len(elements))
        return Messages(
            elements,
            seqs,
            oldest,
            reply[6].decode(errors="replace") or None,
            later=count - start - len(elements),
            version=reply[2],
            created_at_ms=created,
            expires_at_ms=expires,
        )

    def message(self, session_id: str, owner: Owner, target: Target) -> Messages | None:
        keys = self._keys(session_id)
        asked = (owner_argument(owner), target_argument(target))
        reply = self._calls.call(Call("message", keys, asked, writes=False))
        if reply[0] == b"missing":
            return None
        if reply[0] == b"gone":
            return Messages([], [], 0)
        refuse_moved(session_id, reply)
        refuse(None, reply, keys)
        return Messages(reply[7], reply[3:4], reply[4], reply[6].decode() or None)

    def salvage(self, session_id: str, owner: Owner) -> Snapshot | None:
        keys = self._keys(session_id)
        reply = self._calls.call(Call("salvage", keys, (owner_argument(owner),), writes=False))
        if reply[0] == b"missing":
            return None
        refuse_moved(session_id, reply)
        return salvaged(session_id, keys, *reply[2:])

    def _tell_policy(self) -> None:
        """Warn of a server that evicts keys when its memory is full. Some managed services forbid to ask."""
        self._tells_policy = False
        with contextlib.suppress(ConvstoreError, AttributeError):
            policy = _evicting_policy(self._calls.command("INFO", "memory").decode())
            if policy:
                _log.warning(
                    "the server evicts keys when its memory is full (maxmemory-policy %s): sessions, or parts of them, "
                    "will be lost then. Set maxmemory-policy noeviction.",
                    policy,
                )

    def has_ended(self, session_id: str, owner: Owner) -> bool:
        key, _, tokens = self._keys(session_id)
        # The two replies may be of two moments. A session that starts between them was not there at the first.
        replies = self._calls.commands([("EXISTS", key), ("HGET", tokens, "owner")])
        refusal = refusal_among(replies)
        if refusal:
            raise as_ours(refusal, tokens, writes=False) from refusal
        exists, whose = replies
        return not exists and whose is not None and owner in (ANY, whose.decode()[1:] or None)

    def time_ms(self) -> int:
        seconds, microseconds = self._calls.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def ping(self) -> float:
        started = monotonic()
        self._calls.command("PING")
        return (monotonic() - started) * 1000

    def about(self) -> About:
        try:
            told = self._calls.command("INFO").decode()
        except StoreMisconfigured:
            return About(None, None, None)  # some managed services forbid it
        said = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
        server = "valkey" if "valkey_version" in said else "redis"
        role = {"master": "primary", "slave": "replica"}.get(said.get("role", ""))
        return About(server, said.get(f"{server}_version"), role, _evicting_policy(told))

    def close(self) -> None:
        self._calls.close()

    # ---- keys and arguments

    def _keys(self, session_id: str) -> tuple[str, str, str]:
        return session_keys(self._prefix, session_id)

    def _bucket(self, owner: str) -> str:
        return f"{self._prefix}owner:{{{in_key(owner)}}}:bucket"

    def _forgotten(self, owner: str) -> str:
        return f"{self._prefix}owner:{{{in_key(owner)}}}:forgotten"

    def _alias(self, text: str) -> str:
        return f"{self._prefix}alias:{{{text}}}"

    def _head(self, command: Write) -> tuple[Argument, ...]:
        """Make the arguments that every write has behind the nonce."""
        return (owner_argument(command.owner), command.token, command.digest)

    # ---- the owner's index

    def _needs_place(self, command: Put | Merge) -> bool:
        """Tell whether a session that is created takes one of its owner's places."""
        is_owned = isinstance(command.owner, str)
        return bool(self._limits.max_sessions) and is_owned and takes_place(command)

    def _lifetime_of_entry(self, command: Put | Merge) -> int:
        return max(command.ttl_ms or 0, self._longest_ms) + self._tombstone_ms

    def _entry(self, command: Put | Merge) -> Call:
        """Make the call that tells the owner's index of a session before it is created."""
        owner = None if isinstance(command.owner, Scope) else command.owner
        lifetime, keeps = self._lifetime_of_entry(command), _keeps_entry(command)
        return self._index.entry(owner, command.session_id, lifetime, keeps=keeps)

    def _created(self, command: Put | Merge, call: Call) -> Any:
        """Run *command*, which may create a session, behind its index entry, and with a place where places are counted."""
        if not self._needs_place(command):
            return self._index.create(self._entry(command), call)
        owner = str(command.owner)
        spared = command.spared if isinstance(command, Put) else None

        def evict(sessions: Sequence[Summary]) -> list[Call | None]:
            busy = {spared, *self._busy_among([one.session_id for one in sessions], owner)}
            return [None if one.session_id in busy else self._deleting(_as_it_is(one, owner)) for one in sessions]

        name, arguments = writing(command, is_placed=False)
        unplaced = Call(name, call.keys, (*self._head(command), *arguments))
        lifetime, most = self._lifetime_of_entry(command), self._limits.max_sessions
        place = QuotaPlace(owner, command.session_id, lifetime, most, _keeps_entry(command))
        return self._index.create_in_place(place, call, unplaced, evict if may_evict(command, self._limits) else None)

    def _busy_among(self, session_ids: Sequence[str], owner: str) -> list[str]:
        """Select the sessions with a turn in progress. A damaged one has none."""
        replies = self._calls.call_all([self._asking_for_turn(session_id, owner) for session_id in session_ids])
        answers = zip(session_ids, replies, strict=True)
        return [name for name, reply in answers if isinstance(reply, list) and reply[0] == b"ok" and int(reply[2]) > 0]

    def _asking_for_turn(self, session_id: str, owner: Owner) -> Call:
        asked = (owner_argument(owner),)
        return Call("turn_state", self._keys(session_id)[:1], asked, writes=False)

    def _deleting(self, command: Delete) -> Call:
        name, arguments = writing(command)
        return Call(name, self._keys(command.session_id), (*self._head(command), *arguments))

    def _give_back(self, session_id: str, owner: bytes, receipt: Receipt) -> None:
        """Give back the place of a deleted session. Where places are not counted, pages and samples do that."""
        if not self._limits.max_sessions or not owner:
            return
        at, created = receipt.updated_at_ms, receipt.created_at_ms
        try:
            # An entry of this very millisecond belongs to a successor, unless the session began in it too.
            self._index.removed(owner.decode()[1:], session_id, at if created >= at else at - 1)
        except ConvstoreError as error:
            _log.warning("the index was not told that %s was deleted: %s", self._keys(session_id)[0], error)

    def _spread(self, spreads: Sequence[Spread]) -> None:
        """Tell owners' indexes and aliases of interactions, in one round trip.

        The calls themselves are done already. A failure is logged, and made good a minute later.
        """
        if not spreads:
            return
        try:
            for reply in self._calls.call_all([call for spread in spreads for call in self._spreading(spread)]):
                if isinstance(reply, ConvstoreError):
                    raise reply
        except ConvstoreError as error:
            key = self._keys(spreads[0].session_id)[0]
            _log.warning("the index of %s was not told of an interaction: %s", key, error)

    def _spreading(self, spread: Spread) -> list[Call]:
        owner, *aliases = spread.due
        longer = max(0, spread.lifetime_ms) + self._tombstone_ms
        name, updated = owner.decode()[1:] or None, spread.updated_at_ms
        told = self._index.entry(name, spread.session_id, longer, updated_at_ms=updated)
        follows = [Call("follow", (self._alias(alias.decode()),), (longer,), writes=False) for alias in aliases]
        return [told._replace(writes=False), *follows]


def _keeps_entry(command: Put | Merge) -> bool:
    """Tell whether an index entry that is there stays as it is."""
    return isinstance(command, Put) and command.changed_at_ms is not None


def _as_it_is(session: Summary, owner: str) -> Delete:
    """Make the command that deletes a session, unless it was written since."""
    expected = f"{session.created_at_ms}-{session.version}"
    return Delete(session_id=session.session_id, owner=owner, expected=expected)


def _marked(snapshot: Snapshot | None, fields: Sequence[str] | None) -> Snapshot | None:
    """Tell a snapshot which data fields it was asked for (None: all)."""
    if snapshot and fields is not None:
        snapshot.read = tuple(fields)
    return snapshot


def _gate(keys: tuple[str, str, str], owner: Owner) -> str | None:
    """Name the gate of a read. The server itself may see every session, and needs none."""
    return None if owner is ANY else f"{keys[0]}:gate"


def _evicting_policy(told: str) -> str | None:
    """Find in a server's INFO the policy by which it evicts keys when its memory is full. None: it evicts none."""
    found = re.search(r"maxmemory_policy:((?:volatile|allkeys)\S*)", told)
    return found[1] if found else None


def _are_of(version: int, created: int, found: list[Any], gate: str | None) -> bool:
    """Tell whether the replies to ``reading`` are of one moment, and of the session that the script before them has seen.

    False also where the server has read nothing, or what is no session of ours. Makes the hash a dict.

    Behind a gate all replies are of one moment, the script's or a later one. Else others may write between, and whatever
    they do to the messages makes another version of the session than the script has told, or another session.
    """
    if not found:
        return False
    flat = found[-1]
    # A connection of the app's own client may give a dict.
    found[-1] = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    state = _state_of(found[-1])
    if gate is None or state is None:
        return state == (created, version)
    return state[0] == created and state[1] >= version


def _state_of(stored: dict[bytes, bytes]) -> tuple[int, int] | None:
    """Read the time of creation and the version of a session. None if it is gone, or damaged."""
    try:
        created, version = int(stored[b"created"]), int(stored[b"version"])
    except (KeyError, ValueError):
        return None
    return (created, version) if 0 < created < LATEST_MS else None
