"""Any sequence of commands has the same effect and the same answers in memory and on a real server.

``MemoryStore`` is the specification: what differs from it is a fault of one of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from flask_convstore.config import Settings
from flask_convstore.domain.clock import now_ms
from flask_convstore.domain.commands import (
    ANYTHING,
    Append,
    BeginTurn,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    LinkAlias,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.messages import Usage, join_element, own_id
from flask_convstore.domain.numbering import id_of
from flask_convstore.domain.results import Begun
from flask_convstore.domain.types import ANY, ORDERS, Alias, Order
from flask_convstore.errors import ConvstoreError
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore

from ..harness import limits_for
from ..servers import Server

CREATED = "<created>"
"""Stands for the time of creation of the session that is there, which differs between the stores."""
MAX_AGE = 1_000_000

IDS = st.sampled_from(["s", "t"])
OWNERS = st.sampled_from([ANY, ANY, ANY, None, "alice", "bob"])
TOKENS = st.none() | st.sampled_from(["T1", "T2", "T3"])
DIGESTS = st.sampled_from(["d1", "d1", "d1", "d2"])
PROMPTS = [b'{"role":"system"}', b'{"a":"system","role":"developer"}', b'["system"]', b'{"a":"developer"}']
BODIES = st.sampled_from([b'"a"', b'{"role":"user"}', b'"%b"' % (b"x" * 40), b"1", PROMPTS[0], PROMPTS[0]])
BODIES |= st.sampled_from(PROMPTS)
MESSAGE_IDS = st.sampled_from(["x", "y", "ä z"])
SINGLE = st.builds(
    lambda body, message_id: join_element(1, body, {"id": message_id} if message_id else None),
    BODIES,
    st.none() | st.none() | MESSAGE_IDS,
)
ELEMENTS = st.lists(SINGLE, max_size=3, unique_by=lambda element: own_id(element) or object()).map(tuple)
TARGETS = st.integers(1, 14) | MESSAGE_IDS | st.integers(1, 14).map(id_of)
REPLACES = st.just("") | st.just("") | TARGETS
TEXTS = st.none() | st.sampled_from([b"1", b"2", b"true", b'"x"', b"[1]", b'"%b"' % (b"y" * 30)])
NAMES = st.sampled_from(["a", "b", "complete", "history", "messages"])
VERSIONS = st.integers(0, 6)
SHAPES = st.sampled_from(["full", "full:history", "full:messages", "data", "list"])
HISTORY_KEYS = st.sampled_from(["", "messages"])
CHANGES = st.lists(st.tuples(NAMES, TEXTS | st.just(ANYTHING), TEXTS), max_size=3, unique_by=lambda change: change[0])
INCARNATIONS = st.none() | st.integers(0, 2)
LOADED = st.none() | st.none() | VERSIONS
EXPECTED = st.just("") | VERSIONS.map(str)
ETAGS = EXPECTED | VERSIONS.map(lambda version: f"{CREATED}-{version}")
ALIASES = st.builds(Alias, st.sampled_from([None, "alice", "a:b"]), st.sampled_from(["x", "b:x", "ä"]))
FIRST_TITLES = st.sampled_from(["", "", "first", "another"])
USAGES = st.sampled_from([None, None, Usage(1, 2), Usage(30, 0)])
TTLS = st.none() | st.sampled_from([50_000, 90_000_000])


class Machine(RuleBasedStateMachine):
    """The same commands to both stores."""

    server: Server

    @initialize(
        policy=st.sampled_from(["reject", "trim"]),
        max_session_bytes=st.sampled_from([120, 300]),
        owner=st.sampled_from([None, "alice"]),
        guest=st.sampled_from([None, "reader", "writer", "writer"]),
    )
    def start(self, policy: str, max_session_bytes: int, owner: Any, guest: Any) -> None:
        limits = limits_for(
            Settings(
                max_tokens=6,
                max_history=6,
                history_policy=policy,
                max_data_bytes=60,
                max_session_bytes=max_session_bytes,
                max_age=MAX_AGE,
            )
        )
        self.client = self.server.client
        self.client.flushall()
        self.memory = MemoryStore(limits)
        self.redis = RedisStore(self.client, "m:", limits)
        self.stores: list[Any] = [self.memory, self.redis]
        # When each session was created, as often as it was: the times differ between the stores.
        self.created: dict[str, list[tuple[int, int]]] = {"s": [], "t": []}
        if guest:
            first = Put(session_id="s", owner=owner, mode="create", shape="data")
            self.both(with_token(first, "T1"))
            self.both(Share(session_id="s", owner=owner, name="bob", role=guest))

    def both(self, command: Any, call: str = "apply", incarnation: int | None = None) -> None:
        outcomes = []
        for number, store in enumerate((self.memory, self.redis)):
            meant = command
            times = self.created[command.session_id]
            if incarnation is not None:
                when = times[incarnation % len(times)][number] if times else 1
                meant = replace(command, created_at_ms=when)
            expected = getattr(command, "expected", "")
            if CREATED in expected:
                now = str(times[-1][number] if times else 1)
                meant = replace(meant, expected=expected.replace(CREATED, now))
            outcomes.append(outcome(lambda store=store, meant=meant: getattr(store, call)(meant)))  # type: ignore[misc]
        memory, redis = outcomes
        assert memory == redis, command

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        mode=st.sampled_from(["replace", "replace", "create", "first"]),
        shape=SHAPES,
        fields=st.lists(st.tuples(NAMES, TEXTS), max_size=3, unique_by=lambda field: field[0]),
        elements=ELEMENTS,
        ttl_ms=TTLS,
        first_title=FIRST_TITLES,
        usage=USAGES,
        started=st.none() | st.none() | st.sampled_from([-100_000_000, 0, 2_000]),
        since=st.sampled_from([None, None, -100_000_000, 100_000_000]),
        imported=st.sampled_from([None, None, (None, 7_000), (5_000, 7_000), (9_000, 7_000), (5_000, 2**47)]),
    )
    def put(
        self,
        started: int | None,
        since: int | None,
        token: str | None,
        fields: Any,
        elements: Any,
        imported: Any,
        **given: Any,
    ) -> None:
        shape = given["shape"]
        command = Put(
            fields=() if shape == "list" else tuple((name, text) for name, text in fields if text),
            elements=() if shape == "data" else elements,
            **given,
        )
        if imported and command.mode == "create":
            command = replace(command, began_at_ms=imported[0], changed_at_ms=imported[1])
        elif started is not None:  # elsewhere, by a clock that may go wrong
            command = replace(command, started_at_ms=now_ms() + started)
        if since is not None:
            command = replace(command, unchanged_since_ms=now_ms() + since)
        self.both(with_token(command, token))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        shape=SHAPES,
        changes=CHANGES,
        elements=ELEMENTS,
        history_key=HISTORY_KEYS,
        ttl_ms=TTLS,
        first_title=FIRST_TITLES,
        usage=USAGES,
    )
    def upsert(self, token: str | None, changes: Any, elements: Any, **given: Any) -> None:
        shape = given["shape"]
        command = Merge(
            fields=() if shape == "list" else tuple(FieldChange(*found) for found in changes),
            history=None if shape == "data" else Extend(0, elements),
            creates=True,
            **given,
        )
        self.both(with_token(command, token))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        changes=CHANGES,
        change=st.sampled_from(["keep", "extend", "take", "rewrite", "remove", "reset", "empty"]),
        elements=ELEMENTS,
        bound=VERSIONS,
        shape=st.none() | st.none() | st.sampled_from(["full:history", "full:messages"]),
        history_key=HISTORY_KEYS,
        loaded_version=LOADED,
        ttl_ms=TTLS,
        incarnation=INCARNATIONS,
        first_title=FIRST_TITLES,
        usage=USAGES,
    )
    def merge(
        self,
        token: str | None,
        incarnation: int | None,
        changes: Any,
        change: str,
        elements: Any,
        bound: int,
        shape: str | None,
        **given: Any,
    ) -> None:
        history: Extend | Rewrite | None = {
            "keep": None,
            "extend": Extend(bound, elements),
            "take": Extend(bound + 1, elements, oldest_seq=max(1, bound)),
            "rewrite": Rewrite(bound, elements),
            "remove": Rewrite(bound, None),
            "reset": Rewrite(bound, elements, resets=True),
            "empty": Rewrite(bound, (), resets=True),
        }[change]
        fields = tuple(FieldChange(*found) for found in changes)
        command = Merge(fields=fields, history=history, shape="data" if change == "remove" else shape, **given)
        self.both(with_token(command, token), incarnation=incarnation)

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        elements=ELEMENTS,
        fields=st.lists(st.tuples(NAMES, TEXTS), max_size=2, unique_by=lambda field: field[0]).map(tuple),
        expected=ETAGS,
        first_title=FIRST_TITLES,
        usage=USAGES,
        loaded_version=LOADED,
        replaces=REPLACES,
        incarnation=INCARNATIONS,
    )
    def append(self, token: str | None, incarnation: int | None, **given: Any) -> None:
        self.both(with_token(Append(**given), token), incarnation=incarnation)

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        expected=ETAGS,
        which=st.one_of(
            st.tuples(st.just("newest"), st.integers(1, 4)),
            st.tuples(st.just("after"), st.just(0) | TARGETS),
            st.tuples(st.just("message"), TARGETS),
        ),
    )
    def drop(self, token: str | None, which: tuple[str, Any], **given: Any) -> None:
        self.both(with_token(Drop(**given, **dict([which])), token))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        fields=st.lists(st.tuples(NAMES, TEXTS), max_size=2, unique_by=lambda field: field[0]).map(tuple),
        expected=ETAGS,
        ttl_ms=TTLS,
        title=st.sampled_from([None, None, "", "ä title"]),
    )
    def update(self, token: str | None, **given: Any) -> None:
        self.both(with_token(Update(**given), token))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        element=st.none() | SINGLE,
        replaces=REPLACES,
        attempt=st.sampled_from(["A1", "A2", "A3"]),
        supersede=st.booleans(),
        wait_ms=st.sampled_from([0, 1_000_000]),
        last=st.none() | st.integers(1, 3),
        expected=ETAGS,
        first_title=FIRST_TITLES,
        usage=USAGES,
    )
    def begin(self, token: str | None, **given: Any) -> None:
        self.both(with_token(BeginTurn(lease_ms=1_000_000, **given), token), "begin")

    @rule(
        session_id=IDS,
        owner=OWNERS,
        turn=st.none() | st.sampled_from(["A1", "A2", "A3"]),
        token=st.none() | st.sampled_from(["T1", "T2"]),
        elements=ELEMENTS,
        changes=CHANGES,
        status=st.sampled_from(["", "", "unanswered", "failed"]),
        usage=USAGES,
    )
    def commit(self, session_id: str, turn: str | None, token: str | None, changes: Any, **given: Any) -> None:
        """By the attempt *turn*, or by the one that has the turn, under the token that ends the turn begun with *token*."""
        attempt = turn or self.attempt_in(session_id)
        fields = tuple(FieldChange(*found) for found in changes)
        command = CommitTurn(session_id=session_id, turn=attempt, fields=fields, digest=attempt, **given)
        self.both(self.with_token_of_end(command, token))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        turn=st.none() | st.none() | st.sampled_from(["A1", "A2", "A3"]),
        token=st.none() | st.sampled_from(["T1", "T2"]),
        expected=st.just("") | ETAGS,
    )
    def move(self, session_id: str, turn: str | None, token: str | None, **given: Any) -> None:
        attempt = turn or self.attempt_in(session_id)
        command = MoveConversation(session_id=session_id, turn=attempt, moved_to="u", digest=attempt, **given)
        self.both(self.with_token_of_end(command, token))

    def attempt_in(self, session_id: str) -> str:
        session = self.memory._sessions.get(session_id)
        return session.turn.attempt if session and session.turn else "A1"

    def with_token_of_end(self, command: Any, token: str | None) -> Any:
        if token is None:
            return command
        tokens = self.memory._tokens.get(command.session_id)
        begun = tokens and tokens.receipts.get(token)
        return replace(command, token=f"{token}\n{begun[0].version if begun else 0}")

    @rule(session_id=IDS, owner=OWNERS, turn=st.sampled_from(["A1", "A2"]))
    def renew(self, **given: Any) -> None:
        self.both(RenewTurn(lease_ms=1_000_000, **given))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        expected=ETAGS,
        incarnation=INCARNATIONS,
        seq=VERSIONS,
        loaded=st.sampled_from([True, True, True, False]),
        title=st.sampled_from([None, None, "", "edited"]),
        element=BODIES.map(lambda body: join_element(2, body)),
    )
    def edit(self, token: str | None, incarnation: int | None, loaded: bool, **given: Any) -> None:
        found = self.memory.load(given["session_id"], ANY, is_interaction=False)
        index = given["seq"] - (found.next_seq - found.count) if found else 0
        before = found.elements[index] if found and loaded and 0 <= index < found.count else b"?"
        self.both(with_token(Edit(loaded=before, **given), token), incarnation=incarnation)

    @rule(
        session_id=IDS,
        owner=OWNERS,
        name=st.sampled_from(["alice", "bob"]),
        role=st.sampled_from([None, "reader", "writer"]),
    )
    def share(self, **given: Any) -> None:
        self.both(Share(**given))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        before=st.none() | st.integers(0, 9),
        limit=st.integers(1, 4),
        after=st.none() | st.integers(0, 9),
    )
    def messages(self, **given: Any) -> None:
        found = [outcome_of_read(store.messages, **given) for store in self.stores]
        assert found[0] == found[1]

    @rule(session_id=IDS, owner=OWNERS, wanted=TARGETS)
    def message(self, session_id: str, owner: Any, wanted: Any) -> None:
        found = [outcome_of_read(store.message, session_id, owner, wanted) for store in self.stores]
        assert found[0] == found[1]

    @rule(
        session_id=IDS,
        owner=OWNERS,
        token=TOKENS,
        digest=DIGESTS,
        expected=ETAGS,
        loaded_version=LOADED,
        incarnation=INCARNATIONS,
        ago=st.none() | st.sampled_from([100_000, 0]),
    )
    def delete(self, token: str | None, incarnation: int | None, ago: int | None, **given: Any) -> None:
        at_ms = None if ago is None else now_ms() - ago  # elsewhere
        self.both(with_token(Delete(at_ms=at_ms, **given), token), incarnation=incarnation)

    @rule(
        session_id=IDS,
        owner=OWNERS,
        ttl_ms=TTLS,
        incarnation=INCARNATIONS,
    )
    def touch(self, incarnation: int | None, **given: Any) -> None:
        self.both(Touch(**given), incarnation=incarnation)

    @rule(session_id=IDS, owner=OWNERS, alias=ALIASES, leads_here=st.sampled_from([True, True, False]))
    def note_alias(self, **given: Any) -> None:
        self.both(NoteAlias(**given))

    @rule(
        session_id=IDS,
        owner=OWNERS,
        last=st.none() | st.integers(0, 4),
        is_interaction=st.booleans(),
        fields=st.none() | st.lists(NAMES, unique=True),
    )
    def load(self, session_id: str, owner: Any, last: int | None, **options: Any) -> None:
        memory, redis = (store.load(session_id, owner, last, **options) for store in (self.memory, self.redis))
        assert content(memory) == content(redis)
        assert (memory and memory.read) == (redis and redis.read)

    @rule(owner=OWNERS, limit=st.integers(1, 3), newest_first=st.booleans(), order=st.sampled_from(ORDERS))
    def list(self, owner: Any, limit: int, newest_first: bool, order: Order) -> None:
        memory, redis = (listed(store, owner, limit, newest_first, order) for store in (self.memory, self.redis))
        assert memory == redis

    @rule(
        alias=ALIASES,
        session_id=st.none() | IDS,
        expected=st.none() | IDS | st.just(ANY),
        lifetime_ms=st.sampled_from([500_000, 900_000]),
    )
    def link(self, **given: Any) -> None:
        assert self.memory.link(LinkAlias(**given)) == self.redis.link(LinkAlias(**given))

    @rule(alias=ALIASES)
    def follow(self, alias: Alias) -> None:
        assert self.memory.follow(alias, 700_000) == self.redis.follow(alias, 700_000)

    @rule(session_id=IDS, owner=OWNERS)
    def look_at_the_turn(self, session_id: str, owner: Any) -> None:
        def is_free(store: Any) -> Any:
            try:
                return store.turn_lease(session_id, owner).remaining_ms <= 0
            except ConvstoreError as error:
                return type(error)

        assert is_free(self.memory) == is_free(self.redis)

    @rule(session_id=IDS)
    def expire(self, session_id: str) -> None:
        self.memory._sessions.pop(session_id, None)
        self.client.delete(*self.redis._keys(session_id)[:2])

    @rule(session_id=IDS)
    def outlive(self, session_id: str) -> None:
        """It is past its greatest age, and its server has not noticed."""
        session, key = self.memory._sessions.get(session_id), self.redis._keys(session_id)[0]
        if session and self.client.exists(key):
            session.created_at_ms -= 1000 * MAX_AGE
            self.client.hincrby(key, "created", -1000 * MAX_AGE)

    @rule(session_id=IDS, owner=OWNERS)
    def ask_whether_it_has_ended(self, session_id: str, owner: Any) -> None:
        if self.memory.load(session_id, ANY) or not self.client.exists(self.redis._keys(session_id)[0]):
            assert self.memory.has_ended(session_id, owner) == self.redis.has_ended(session_id, owner)

    @rule(session_id=IDS)
    def end_lease(self, session_id: str) -> None:
        session = self.memory._sessions.get(session_id)
        if session and session.turn:
            session.turn.until_ms = 0
            self.client.hset(self.redis._keys(session_id)[0], "turn_until", 0)

    @invariant()
    def the_same_is_stored(self) -> None:
        for session_id, times in self.created.items():
            memory, redis = (store.load(session_id, ANY, None) for store in (self.memory, self.redis))
            assert content(memory) == content(redis)
            if memory and redis and (memory.created_at_ms, redis.created_at_ms) not in times:
                times.append((memory.created_at_ms, redis.created_at_ms))
            keys = self.redis._keys(session_id)
            ends = [self.client.pexpiretime(key) for key in keys[:2] if self.client.exists(key)]
            assert len(set(ends)) <= 1
        assert all(self.client.pttl(key) != -1 for key in self.client.scan_iter())  # -2: it has just expired


def with_token(command: Any, token: str | None) -> Any:
    """A token of the pool, or a fresh one, the same for both stores."""
    if token is None:
        return replace(command, digest="")
    digest = command.digest and f"{type(command).__name__} {command.digest}"
    return replace(command, token=token, digest=digest)


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """The result or error of a call, without facts that differ between two clocks."""
    try:
        found = call()
        given = facts_of(found)
    except ConvstoreError as error:
        facts = {name: value for name, value in vars(error).items() if name not in ("retry_after_ms", "key")}
        return {"error": type(error).__name__, **facts}
    receipts = [given, given.get("receipt"), given.get("reply")]
    for receipt in receipts:
        if receipt and "level" in receipt:
            gone = not receipt["expires_at_ms"]
            for name in ("created_at_ms", "updated_at_ms", "expires_at_ms", "level"):
                del receipt[name]
            receipt["lifetime_ms"] = 0 if gone else round(receipt["lifetime_ms"], -4)
    if given.get("snapshot"):
        given["snapshot"] = content(found.snapshot)
    return given


def facts_of(found: Any) -> dict[str, Any]:
    """The facts of a receipt, or of a turn that has begun, with those of its receipt."""
    if not isinstance(found, Begun):
        return asdict(found)
    return {name: asdict(fact) if is_dataclass(fact) else fact for name, fact in found._asdict().items()}  # type: ignore[arg-type]


def outcome_of_read(read: Callable[..., Any], *arguments: Any, **given: Any) -> Any:
    """The messages that were read, with their seqs as a list, or the kind of the error."""
    try:
        found = read(*arguments, **given)
    except ConvstoreError as error:
        return type(error)
    return found and (
        found.elements,
        [*found.seqs],
        found.elements and (found.oldest_seq, found.title),
        found.later,
        found.version,
    )


COMPARED = (
    "session_id",
    "version",
    "shape",
    "title",
    "fields",
    "elements",
    "first_seq",
    "gaps",
    "next_seq",
    "count",
    "history_version",
    "owner",
    "own_ttl_ms",
    "moved_to",
    "aliases",
    "usage",
    "shared",
    "began_at_ms",
)


def listed(store: Any, owner: Any, limit: int, newest_first: bool, order: Order) -> dict[str, Any]:
    """The list of a store, page by page, without facts that differ between two clocks."""
    found = {}
    places = []
    cursor = None
    while True:
        page = store.page(owner, cursor, limit, newest_first=newest_first, order=order)
        for summary in page.sessions:
            places.append((summary.updated_at_ms, summary.session_id))
            found[summary.session_id] = (
                summary.owner,
                summary.version,
                summary.message_count,
                summary.title,
                summary.usage,
            )
            # Both are equal where a session whose clock was ahead has outlived its greatest age.
            assert summary.created_at <= summary.updated_at <= summary.expires_at or summary.updated_at_ms == 7_000
        cursor = page.next
        if cursor is None:
            if order == "updated" and owner is not ANY:
                assert places == sorted(set(places), reverse=newest_first)
            return found


def content(snapshot: Any) -> dict[str, Any] | None:
    return snapshot and {**{name: getattr(snapshot, name) for name in COMPARED}, "seqs": [*snapshot.seqs]}


def test_the_same_commands_have_the_same_effect(server: Server) -> None:
    class On(Machine):
        pass

    On.server = server
    run_state_machine_as_test(
        On,
        settings=settings(
            max_examples=500, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
