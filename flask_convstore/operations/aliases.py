"""Outside names of conversations ("telegram:123") that lead to sessions, in the scope of their owner.

An alias is a name for a session, not a part of it. An alias may outlive its session, and leads to a new one then. The first
caller decides by compare-and-set where an alias leads. All others follow.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence

from ..domain.commands import LinkAlias, NoteAlias, token_or_new
from ..domain.ids import new_id
from ..domain.types import ANY, TOMBSTONE_MS, Alias, Lifetime, Scope
from ..domain.validation import check_name, check_session_id
from ..errors import CorruptValue, SessionExists, SessionNotFound, StoreUnavailable, behind_a_write
from ..sessions.content import Content
from ..sessions.session import AnySession, base_of
from . import sessions
from .access import Access, in_time

_ATTEMPTS = 50
"""Most attempts to follow an alias that others lead elsewhere meanwhile. So many do not happen by chance."""


@in_time
def resolve(
    access: Access,
    alias: str,
    *,
    create: bool = False,
    data: Content | None = None,
    ttl: Lifetime | None = None,
    last: int | None = None,
) -> AnySession | None:
    """Load the session that *alias* leads to. With *create*, make one where there is none.

    Raises:
        TooManyTurns: A session that is made counts as a turn of its owner. Nothing was written.
    """
    name, life_ms = _named(access, alias), _life_ms(access)
    session_id = _followed(access, name, life_ms, create=create)
    count = _once(access.count_turn)
    for _ in range(_ATTEMPTS):
        if session_id is None:
            if not create:
                return None
            count()
            session_id = _lead_anew(access, name, life_ms)
        session = _led_to(access, session_id, last, create=create)
        if session is None and not create:
            return None
        try:
            if session is None:
                count()
                return _create(access, session_id, name, data, ttl, life_ms)
            if not session.moved_to:
                return _noted(access, session, name, life_ms)
            session_id = access.store.link(_led(name, session_id, session.moved_to, life_ms))
        except SessionExists:
            pass  # another caller was faster
        except SessionNotFound:  # the session is gone, or is another owner's
            _refuse_anothers(access, name, session_id)
            session_id = access.store.link(_led(name, session_id, new_id(), life_ms))
    raise StoreUnavailable(f"the alias {alias!r} was led elsewhere at every attempt", written=False)


def _followed(access: Access, alias: Alias, life_ms: int, *, create: bool) -> str | None:
    """Follow *alias*. Where the store is away, nobody knows where it leads: with *create* it is led anew, as if nowhere."""
    try:
        return access.store.follow(alias, life_ms)
    except StoreUnavailable:
        if create and access.settings.outage == "continue":
            return None
        raise


def _led_to(access: Access, session_id: str, last: int | None, *, create: bool) -> AnySession | None:
    """Load the session that an alias leads to. Where one may be created, nothing known is as good as none."""
    return (sessions.known if create else sessions.get)(access, session_id, last=last)


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Make a function that does *call* the first time, and nothing after that."""
    left = [call]
    return lambda: left.pop()() if left else None


def _lead_anew(access: Access, alias: Alias, life_ms: int) -> str:
    """Lead *alias* from nowhere to a new id, and return the id. If another caller was faster, return the other's id."""
    session_id = access.store.link(_led(alias, None, new_id(), life_ms))
    assert session_id
    return session_id


@in_time
def lead(access: Access, alias: str) -> tuple[Alias, str]:
    """Find the id to which *alias* leads. Where it leads nowhere, lead it to a new id, which nobody can foresee."""
    name, life_ms = _named(access, alias), _life_ms(access)
    return name, access.store.follow(name, life_ms) or _lead_anew(access, name, life_ms)


def _create(
    access: Access, session_id: str, alias: Alias, data: Content | None, ttl: Lifetime | None, life_ms: int
) -> AnySession:
    """Create the session that *alias* leads to."""
    content = {access.limits.history_key: []} if data is None else data
    session, _ = sessions.create(access, session_id, content, ttl=ttl, is_first=True)
    with behind_a_write():
        return _noted(access, session, alias, life_ms)


def _refuse_anothers(access: Access, alias: Alias, session_id: str | None) -> None:
    """Refuse a caller without an owner whose alias the server has led to an owner's session.

    The alias is nobody's, and still must not be taken away from the server.
    """
    if alias.owner is not None or session_id is None:
        return
    if access.of(ANY).load(session_id, 0, is_interaction=False):
        reason = (
            f"the alias {alias.name!r} leads to a session of another owner: follow the alias with owner=ANY. "
            "Nothing was written."
        )
        raise SessionNotFound(alias.name, reason) from None


@in_time
def ensure(access: Access, alias: str, *, data: Content, ttl: Lifetime | None) -> AnySession:
    """Load the session that *alias* leads to, or make a new one with *data*."""
    session = resolve(access, alias, create=True, data=data, ttl=ttl)
    assert session is not None
    return session


@in_time
def link(access: Access, alias: str, session_id: str) -> None:
    """Let *alias* lead to a session, wherever it led before."""
    name, life_ms = _named(access, alias), _life_ms(access)
    check_session_id(session_id)
    receipt = access.apply(NoteAlias(session_id=session_id, owner=access.owner, alias=name, leads_here=True))
    life_ms = max(life_ms, receipt.lifetime_ms + TOMBSTONE_MS)
    access.store.link(LinkAlias(alias=name, session_id=session_id, expected=Scope.ANY, lifetime_ms=life_ms))


@in_time
def unlink(access: Access, alias: str) -> bool:
    """Let *alias* lead nowhere. False if it led nowhere."""
    name, life_ms = _named(access, alias), _life_ms(access)
    session_id = access.store.follow(name, life_ms)
    if session_id is None:
        return False
    while (led_to := access.store.link(_led(name, session_id, None, life_ms))) is not None:
        session_id = led_to  # others led the alias elsewhere meanwhile
    with behind_a_write(), contextlib.suppress(SessionNotFound):  # the alias led to nothing
        access.apply(NoteAlias(session_id=session_id, owner=access.owner, alias=name, leads_here=False))
    return True


@in_time
def aliases(access: Access, session_id: str) -> list[str]:
    """List the aliases that lead to a session, sorted. Empty if there is no such session."""
    session = sessions.get(access, session_id, last=0)
    if session is None:
        return []
    noted = [alias for alias in base_of(session).snapshot.aliases if not is_note(alias)]
    led = access.store.follow_all(noted, _life_ms(access))
    return [alias.name for alias, leads_to in zip(noted, led, strict=True) if leads_to == session_id]


@in_time
def clear(access: Access, alias: str, *, token: str | None = None) -> bool:
    """Delete the session that *alias* leads to, and the alias. False if there was no session.

    Args:
        token: Names this call. A repeat within a day gets the first answer, and deletes no session that began since.
    """
    name, life_ms = _named(access, alias), _life_ms(access)
    session_id = _meant(access, alias, name, life_ms)
    if token is not None:
        meant = session_id or access.store.follow(name, life_ms) or new_id()
        session_id = access.store.link(_led(_note_of(name, token), None, meant, TOMBSTONE_MS))
    was_there = session_id is not None and sessions.delete(access, session_id, token=token) is not None
    led_to = session_id or access.store.follow(name, life_ms)
    if led_to is not None:
        with behind_a_write() if was_there else contextlib.nullcontext():
            access.store.link(_led(name, led_to, None, life_ms))
    return was_there


def _note_of(alias: Alias, token: str) -> Alias:
    """Name the note of the session that the first call with *token* means. No alias of an app has such a name."""
    named = f"{alias.name}\n{token_or_new(token)}"
    return Alias(alias.owner, f"\n{hashlib.blake2b(named.encode(), digest_size=16).hexdigest()}")


def is_note(alias: Alias) -> bool:
    """Tell whether this is no alias of the app's, but a note of ours: of what a call with a token meant, or ``CURRENT``."""
    return alias.name.startswith("\n")


CURRENT = "\ncurrent"
"""Name of the note that leads to an owner's current session."""


def current(access: Access, owner: str, *, last: int | None = None) -> AnySession | None:
    """Load the session that *owner* has made the current one. None if there is none, or if it has ended."""
    note, life_ms = Alias(owner, CURRENT), _life_ms(access)
    session_id = access.store.follow(note, life_ms)
    for _ in range(_ATTEMPTS):
        session = sessions.get(access, session_id, last=last) if session_id else None
        # A session that has begun since under the same id was told of no note.
        if session_id is None or session is None or note not in base_of(session).snapshot.aliases:
            return None
        if not session.moved_to:
            return session
        session_id = access.store.link(_led(note, session_id, session.moved_to, life_ms))
    raise StoreUnavailable("the current session was another one at every attempt", written=False)


def make_current(access: Access, owner: str, session_id: str | None) -> None:
    """Make a session the current one of *owner*, or none (None)."""
    note, life_ms = Alias(owner, CURRENT), _life_ms(access)
    if session_id is not None:
        check_session_id(session_id)
        receipt = access.apply(NoteAlias(session_id=session_id, owner=access.owner, alias=note, leads_here=True))
        life_ms = max(life_ms, receipt.lifetime_ms + TOMBSTONE_MS)
    access.store.link(LinkAlias(alias=note, session_id=session_id, expected=Scope.ANY, lifetime_ms=life_ms))


def _meant(access: Access, alias: str, name: Alias, life_ms: int) -> str | None:
    """Find the session that an alias leads to, damaged or not. None if there is none."""
    try:
        session = resolve(access, alias, last=0)
    except CorruptValue:
        return access.store.follow(name, life_ms)
    return None if session is None else session.session_id


def move(access: Access, noted: Sequence[Alias], session_id: str, moved_to: str | None) -> None:
    """Let aliases of a session lead to another one, or nowhere, unless they lead elsewhere already. One trip for all."""
    if not noted:
        return
    life_ms = _life_ms(access)
    access.store.link_all([_led(alias, session_id, moved_to, life_ms) for alias in noted])


def _named(access: Access, alias: str) -> Alias:
    """Check the name, and make an alias of the caller's from it."""
    check_name(alias, "alias")
    return Alias(None if isinstance(access.owner, Scope) else access.owner, alias)


def _life_ms(access: Access) -> int:
    """Compute the lifetime of an alias of a session with a lifetime by the settings. It outlives the session by a day."""
    settings = access.settings
    return round(max(settings.ttl, settings.ttl_complete) * 1000) + TOMBSTONE_MS


def _led(alias: Alias, expected: str | None, session_id: str | None, life_ms: int) -> LinkAlias:
    """Make the command that leads *alias* from the *expected* session, or from nowhere, to another or nowhere."""
    return LinkAlias(alias=alias, session_id=session_id, expected=expected, lifetime_ms=life_ms)


def _noted(access: Access, session: AnySession, alias: Alias, life_ms: int) -> AnySession:
    """Note the *alias* in *session*, and let the alias outlive the session."""
    base = base_of(session)
    if alias not in base.snapshot.aliases:
        access.apply(NoteAlias(session_id=session.session_id, owner=access.owner, alias=alias, leads_here=True))
    if base.snapshot.own_ttl_ms and base.snapshot.own_ttl_ms + TOMBSTONE_MS > life_ms:
        access.store.follow(alias, base.snapshot.own_ttl_ms + TOMBSTONE_MS)
    return session
