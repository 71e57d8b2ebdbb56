"""Outside names of conversations ("telegram:123") that lead to sessions, in the scope of their owner.

An alias is a name for a session, not a part of it: it may outlive it, and is led to a new one then. Whoever comes first
decides where it leads, by compare-and-set; all others follow.
"""

from __future__ import annotations

import contextlib

from ..domain.commands import LinkAlias, NoteAlias
from ..domain.ids import new_id
from ..domain.results import ANY, CALLER, TOMBSTONE_MS, Alias, Owner, Scope
from ..domain.validation import check_name
from ..errors import SessionExists, SessionNotFound, StoreUnavailable, behind_a_write
from ..sessions.content import Content
from ..sessions.session import AnySession, base_of
from .sessions import Conversations

_SHORTEST_LIFE_MS = 30 * 24 * 3600 * 1000
"""An alias lives for 30 days at least from the last time it was followed, and a day longer than its session."""

_ATTEMPTS = 50
"""How often an alias is followed anew because others led it elsewhere meanwhile: more than can happen by chance."""


def resolve(
    conversations: Conversations,
    alias: str,
    *,
    create: bool = False,
    data: Content | None = None,
    ttl: float | None = None,
    last: int | None = None,
    owner: Owner | Scope = CALLER,
) -> AnySession | None:
    """See ``ConversationStore.resolve``."""
    name, whose, life_ms = _named(conversations, alias, owner)
    store = conversations.backend.store
    session_id = store.follow(name, life_ms)
    for _ in range(_ATTEMPTS):
        if session_id is None:
            if not create:
                return None
            session_id = store.link(_led(name, None, new_id(), life_ms)) or ""
        session = conversations.get_session(session_id, last=last, owner=whose)
        if session is not None and session.moved_to:
            session_id = store.link(_led(name, session_id, session.moved_to, life_ms))
            continue
        if session is None and not create:
            return None
        try:
            if session is None:
                content = {conversations.backend.settings.history_key: []} if data is None else data
                session, _ = conversations.create(session_id, content, ttl=ttl, is_first=True, owner=whose)
                with behind_a_write():
                    return _noted(conversations, session, name, life_ms, whose)
            return _noted(conversations, session, name, life_ms, whose)
        except SessionExists:
            pass  # somebody was faster
        except SessionNotFound:  # it was there and is gone, or is another owner's
            if name.owner is None and store.load(session_id, ANY, last=0, is_interaction=False):
                # The server has led it to somebody's session: nobody in particular takes it away.
                reason = (
                    f"the alias {alias!r} leads to a session of another owner; nothing was written (owner=ANY follows)"
                )
                raise SessionNotFound(alias, reason) from None
            session_id = store.link(_led(name, session_id, new_id(), life_ms))
    raise StoreUnavailable(f"the alias {alias!r} was led elsewhere too often", written=False)


def ensure(
    conversations: Conversations, alias: str, *, data: Content, ttl: float | None, owner: Owner | Scope = CALLER
) -> AnySession:
    """The session that *alias* leads to; a new one with *data*, if it leads nowhere."""
    session = resolve(conversations, alias, create=True, data=data, ttl=ttl, owner=owner)
    assert session is not None
    return session


def link(conversations: Conversations, alias: str, session_id: str, *, owner: Owner | Scope = CALLER) -> None:
    """See ``ConversationStore.link``."""
    name, whose, life_ms = _named(conversations, alias, owner)
    store = conversations.backend.store
    conversations.resolved(session_id, owner)
    receipt = store.apply(NoteAlias(session_id=session_id, owner=whose, alias=name, leads_here=True))
    life_ms = max(life_ms, receipt.lifetime_ms + TOMBSTONE_MS)
    store.link(LinkAlias(alias=name, session_id=session_id, expected=Scope.ANY, lifetime_ms=life_ms))


def unlink(conversations: Conversations, alias: str, *, owner: Owner | Scope = CALLER) -> bool:
    """See ``ConversationStore.unlink``."""
    name, whose, life_ms = _named(conversations, alias, owner)
    store = conversations.backend.store
    session_id = store.follow(name, life_ms)
    if session_id is None:
        return False
    while (led_to := store.link(_led(name, session_id, None, life_ms))) is not None:
        session_id = led_to  # it was led elsewhere meanwhile
    with behind_a_write(), contextlib.suppress(SessionNotFound):  # it led to nothing
        store.apply(NoteAlias(session_id=session_id, owner=whose, alias=name, leads_here=False))
    return True


def aliases(conversations: Conversations, session_id: str, *, owner: Owner | Scope = CALLER) -> list[str]:
    """See ``ConversationStore.aliases``."""
    session = conversations.get_session(session_id, last=0, owner=owner)
    if session is None:
        return []
    store = conversations.backend.store
    found = [alias for alias in base_of(session).aliases if store.follow(alias, _life_ms(conversations)) == session_id]
    return [alias.name for alias in found]


def clear(conversations: Conversations, alias: str, *, owner: Owner | Scope = CALLER) -> bool:
    """See ``ConversationStore.clear``."""
    name, whose, life_ms = _named(conversations, alias, owner)
    store = conversations.backend.store
    session = resolve(conversations, alias, last=0, owner=whose)
    was_there = session is not None and conversations.delete_session(session.session_id, owner=whose)
    led_to = session.session_id if session is not None else store.follow(name, life_ms)
    if led_to is not None:
        with behind_a_write() if was_there else contextlib.nullcontext():
            store.link(_led(name, led_to, None, life_ms))
    return was_there


def move(conversations: Conversations, alias: Alias, session_id: str, moved_to: str) -> None:
    """Lead *alias* from the one session to the other, unless it leads elsewhere already."""
    conversations.backend.store.link(_led(alias, session_id, moved_to, _life_ms(conversations)))


def forget(conversations: Conversations, alias: Alias, session_id: str) -> None:
    """Let *alias* lead nowhere, unless it leads elsewhere than to the session."""
    conversations.backend.store.link(_led(alias, session_id, None, _life_ms(conversations)))


def _named(conversations: Conversations, alias: str, owner: Owner | Scope) -> tuple[Alias, Owner, int]:
    """The alias in its scope, for whom, and how long it lives."""
    check_name(alias, "alias")
    whose = conversations.whose(owner)
    return Alias(None if isinstance(whose, Scope) else whose, alias), whose, _life_ms(conversations)


def _life_ms(conversations: Conversations) -> int:
    settings = conversations.backend.settings
    return max(_SHORTEST_LIFE_MS, round(max(settings.ttl, settings.ttl_complete) * 1000) + TOMBSTONE_MS)


def _led(alias: Alias, expected: str | None, session_id: str | None, life_ms: int) -> LinkAlias:
    return LinkAlias(alias=alias, session_id=session_id, expected=expected, lifetime_ms=life_ms)


def _noted(conversations: Conversations, session: AnySession, alias: Alias, life_ms: int, owner: Owner) -> AnySession:
    """*session*, which knows from now on that *alias* leads to it; the alias outlives it."""
    base, store = base_of(session), conversations.backend.store
    if alias not in base.aliases:
        store.apply(NoteAlias(session_id=session.session_id, owner=owner, alias=alias, leads_here=True))
    if base.own_ttl_ms and base.own_ttl_ms + TOMBSTONE_MS > life_ms:
        store.follow(alias, base.own_ttl_ms + TOMBSTONE_MS)
    return session
