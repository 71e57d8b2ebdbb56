"""Every operation on sessions: values in, one command or one read to the store, values out. Knows neither Flask nor Redis.

All doors (the extension's helpers, the blueprint) come through here, so that they cannot differ.
"""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from ..config import Settings
from ..domain.commands import Append, Delete, Merge, Touch, digest_of, token_or_new
from ..domain.ids import id_made_away, id_named, new_id
from ..domain.messages import Message
from ..domain.results import CALLER, Health, Owner, Page, Receipt, Scope, Summary
from ..domain.validation import check_lifetime, check_name, check_session_id, check_whole
from ..errors import (
    ConflictError,
    InvalidInput,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreError,
    StoreUnavailable,
    TooLarge,
    TooManyTurns,
)
from ..sessions import content, diff
from ..sessions.baseline import base_created, base_merged
from ..sessions.content import Content, Form
from ..sessions.session import AnySession, as_session, base_of, based, loaded, on_base
from ..stores.store import Store, pages
from ..telemetry.observed_store import told_after

_log = logging.getLogger("flask_convstore")

MAX_LOADED = 2**31
"""Messages that are asked for at once: more than a session can hold, and no number that is too large for a server."""


@dataclass(frozen=True)
class Backend:
    """One application's settings and its store.

    Attributes:
        server: Names what the store writes to, without a password.
    """

    settings: Settings
    store: Store
    server: str = ""

    @cached_property
    def origin(self) -> str:
        """Names the place of the sessions: a session of another place is no session here."""
        return f"{self.server} {self.settings.prefix}"

    @cached_property
    def form(self) -> Form:
        """How content is given here."""
        settings = self.settings
        return Form(
            settings.history_key, settings.max_message_bytes, settings.max_data_bytes, settings.max_metadata_depth
        )


class Conversations(abc.ABC):
    """The operations. Each takes ``owner=``: a name, None (sessions without owner), ``ANY``, or by default the caller.

    Every operation raises ``StoreUnavailable`` when no answer comes in time, ``StoreMisconfigured`` when the server
    refuses us, and ``CorruptValue`` when the stored session is not whole; each error says whether anything was written.
    """

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The settings and the store to work on now."""

    @abc.abstractmethod
    def caller(self) -> Owner:
        """The owner that the default ``owner=CALLER`` stands for now."""

    def save_session(
        self, session_id: str, data: Content, *, ttl: float | None = None, owner: Owner | Scope = CALLER
    ) -> AnySession:
        """Save a session; what comes back is *data* as a session.

        A session that came from ``get_session`` or ``save_session`` is merged: only what was changed in it is written,
        beside what others wrote meanwhile, and it is itself what comes back. A plain dict or list replaces the session or
        creates it.

        Args:
            data: A dict of fields, with the messages under the history's key if there are any, or a bare list of messages.
            ttl: Seconds that the session lives from each interaction, from now on; None keeps what it has.

        Raises:
            NotSerializable: JSON cannot hold a value; the error has its path. Nothing was written.
            TooLarge: A limit is passed; nothing was written.
            ConflictError: A field that was changed here, or a history that was rewritten here, was changed by another
                write since it was loaded. Nothing was written.
            SessionNotFound: The loaded session was deleted or has expired: it is not brought back. Or the id is another
                owner's.
        """
        with told_after():  # those who have loaded it are told when *data* knows what is stored
            return self._save(session_id, data, ttl, owner)

    def _save(self, session_id: str, data: Content, ttl: float | None, owner: Owner | Scope) -> AnySession:
        backend, whose = self.resolved(session_id, owner)
        _check_content(data)
        ttl_ms = self.ttl_ms(ttl)
        session = as_session(data, session_id, backend.origin)
        if session is None:
            save = diff.whole(session_id, data, backend.form, whose, ttl_ms)
            return based(data, base_created(save, backend.store.apply(save), backend.origin))
        self._finish_pending(session, backend)
        base = base_of(session)
        difference = diff.difference(base, data, backend.form, whose, ttl_ms)
        if difference is None:
            touch = Touch(session_id=session_id, owner=whose, created_at_ms=base.created_at_ms, ttl_ms=ttl_ms)
            receipt = backend.store.apply(touch)
            return on_base(session, replace(base, expires_at_ms=receipt.expires_at_ms))
        return self._merge(session, difference, backend)

    def _finish_pending(self, session: AnySession, backend: Backend) -> None:
        """Repeat a save that was not acknowledged, with its token: only then is it known what the session differs from."""
        pending = base_of(session).pending
        if pending:
            try:
                self._merge(session, pending, backend)
            except (ConflictError, TooLarge):
                # It had not landed, and does not fit any more: the next difference starts from before it.
                on_base(session, replace(base_of(session), pending=None))

    def _merge(self, session: AnySession, save: Merge, backend: Backend) -> AnySession:
        """Write *save*, and measure *session* from what it left. If it may have landed unacknowledged, it stays pending."""
        try:
            receipt = backend.store.apply(save)
        except StoreUnavailable as error:
            if error.written is not False:
                on_base(session, replace(base_of(session), pending=save))
            raise
        return on_base(session, base_merged(base_of(session), save, receipt))

    def get_session(
        self, session_id: str, *, last: int | None = None, owner: Owner | Scope = CALLER
    ) -> AnySession | None:
        """The session, exactly as it was saved, or None if there is none for this owner. Moves the lifetime.

        Args:
            last: Only so many of its newest messages; default all. Messages can be added to such a session and its fields
                changed, but to drop or rewrite messages load all.
        """
        backend, whose = self.resolved(session_id, owner)
        if last is not None:
            check_whole(last, "last")
        snapshot = backend.store.load(session_id, whose, None if last is None else min(last, MAX_LOADED))
        return loaded(snapshot, backend.settings.history_key, backend.origin) if snapshot else None

    def existing_session(
        self, session_id: str, *, last: int | None = None, owner: Owner | Scope = CALLER
    ) -> AnySession:
        """As ``get_session``; SessionNotFound if there is none."""
        session = self.get_session(session_id, last=last, owner=owner)
        if session is None:
            raise SessionNotFound(session_id)
        return session

    def setdefault(
        self, session_id: str, data: Content, *, ttl: float | None = None, owner: Owner | Scope = CALLER
    ) -> AnySession:
        """The session; if there is none, *data* as a new one. As with a dict, whoever comes first creates it.

        Raises:
            InvalidInput: As ``save_session`` does.
            SessionNotFound: The id is another owner's.
        """
        _, whose = self.resolved(session_id, owner)
        _check_content(data)
        while True:
            session = self.get_session(session_id, owner=whose)
            if session is not None:
                return session
            try:
                return self.create(session_id, data, ttl=ttl, owner=whose)[0]
            except SessionExists:
                continue  # somebody was faster

    def create(
        self,
        session_id: str,
        data: Content,
        message: Message | None = None,
        *,
        ttl: float | None = None,
        token: str | None = None,
        digest: str = "",
        is_first: bool = False,
        instead_of: str | None = None,
        owner: Owner | Scope = CALLER,
    ) -> tuple[AnySession, Receipt]:
        """A new session, once, and the receipt.

        Args:
            message: It will follow: what is wrong with it is told before anything is written.
            digest: Tells what is asked for from other requests that come with this *token*.
            is_first: Only if there has been no such session within the last day either.
            instead_of: A session that may have been started in a try before this one, and is not wanted any more.

        Raises:
            SessionExists: There is such a session, and this *token* did not make it.
            SessionNotFound: The id is another owner's; or with *is_first*, there has been such a session.
            As ``save_session``.
        """
        backend, whose = self.resolved(session_id, owner)
        if message:
            content.added([message], backend.form)
        save = diff.whole(session_id, data, backend.form, whose, self.ttl_ms(ttl), "first" if is_first else "create")
        save = replace(save, instead_of=instead_of)
        if token:
            save = replace(save, token=token, digest=digest)
        receipt = backend.store.apply(save)
        return based(data, base_created(save, receipt, backend.origin)), receipt

    def start(
        self,
        data: Content,
        message: Message | None = None,
        *,
        ttl: float | None = None,
        token: str | None = None,
        digest: str = "",
        owner: Owner | Scope = CALLER,
    ) -> tuple[AnySession, Receipt]:
        """A new session under an id of ours, as ``create`` makes it; the same *token* leads to the same session.

        While the store is away it may be started elsewhere, under an id that tells so.
        """
        session_id = id_named(token) if token else new_id()
        self.spend(self.whose(owner))

        create = partial(self.create, data=data, message=message, ttl=ttl, token=token, digest=digest, owner=owner)
        try:
            return create(session_id)
        except SessionMoved as moved:
            return create(moved.moved_to)
        except StoreUnavailable as error:
            if not error.can_start:
                raise
            try:
                # An id that was made from a token may be known to somebody; one of our own that was lost is not.
                lost = session_id if error.written is None and not token else None
                return create(id_made_away(), instead_of=lost)
            except SessionMoved as moved:
                return create(moved.moved_to)
            except StoreUnavailable as too:
                raise error from too

    def delete_session(self, session_id: str, *, expected: str = "", owner: Owner | Scope = CALLER) -> bool:
        """Delete the session for good; whether there was one.

        Args:
            expected: Only if it has this version, or is in this state (an ETag, ``<created_ms>-<version>``).

        Raises:
            ConflictError: It has another version; nothing was written.
        """
        return self.deleted(session_id, expected=expected, owner=owner) is not None

    def deleted(self, session_id: str, *, expected: str = "", owner: Owner | Scope = CALLER) -> Receipt | None:
        """As ``delete_session``; the receipt, None if there was none."""
        backend, whose = self.resolved(session_id, owner)
        try:
            return backend.store.apply(Delete(session_id=session_id, owner=whose, expected=expected))
        except SessionNotFound:
            return None

    def append(
        self,
        session_id: str,
        *messages: Any,
        data: Mapping[str, Any] | None = None,
        token: str | None = None,
        expected_version: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Add *messages* at the end and set the fields in *data*, all or nothing, in one round trip at any length.

        Repeating a call with the same *token* changes nothing and returns the first receipt.

        Args:
            messages: Bodies, any JSON value, or ``Message`` objects with metadata.
            data: Fields to set, whatever they were before.
            token: Your own name for this write, 1 to 200 characters; None makes one.
            expected_version: Write only if the session has this version.

        Raises:
            SessionNotFound: No such session for this owner, or it has expired.
            ConflictError: It has not the expected version; nothing was written.
            TokenReused: The token came before with other messages or data; nothing was written.
            NotSerializable, TooLarge: A value cannot be stored; nothing was written.
        """
        backend, whose = self.resolved(session_id, owner)
        if not messages and not data:
            raise InvalidInput("append needs a message or data; nothing was written")
        if expected_version is not None:
            check_whole(expected_version, "expected_version")
        elements, first_title, usage = content.added(messages, backend.form)
        fields = content.fields_to_set(data, backend.form) if data else ()
        return backend.store.apply(
            Append(
                session_id=session_id,
                owner=whose,
                elements=elements,
                fields=fields,
                expected="" if expected_version is None else str(expected_version),
                first_title=first_title,
                usage=usage,
                token=token_or_new(token),
                digest="" if token is None else digest_of("append", elements, fields),
            )
        )

    def touch(self, session_id: str, *, ttl: float | None = None, owner: Owner | Scope = CALLER) -> bool:
        """Move the lifetime, and change it if *ttl* (seconds) is given; whether there is such a session."""
        backend, whose = self.resolved(session_id, owner)
        try:
            backend.store.apply(Touch(session_id=session_id, owner=whose, ttl_ms=self.ttl_ms(ttl)))
        except SessionNotFound:
            return False
        return True

    def exists(self, session_id: str, *, owner: Owner | Scope = CALLER) -> bool:
        """Whether there is such a session. Asking is an interaction: it moves the lifetime."""
        return self.touch(session_id, owner=owner)

    def list_sessions(self, *, cursor: str | None = None, limit: int = 50, owner: Owner | Scope = CALLER) -> Page:
        """The owner's sessions without data and messages, by their last interaction, newest first to within a minute.

        Listing is no interaction. With ``owner=ANY`` the server walks through all its keys, and the order is none.

        Args:
            cursor: ``next`` of the page before; None begins. A page may be shorter than *limit* (1 to 1,000), or empty, and
                not be the last one: that has ``next`` None.
        """
        check_whole(limit, "limit", 1, 1000)
        return self.backend.store.page(self.whose(owner), cursor, limit, newest_first=True)

    def summaries(self, *, newest_first: bool = False, owner: Owner | Scope = CALLER) -> Iterator[Summary]:
        """All sessions of the owner, a page at a time; one may come twice."""
        for page in pages(self.backend.store, self.whose(owner), newest_first=newest_first):
            yield from page.sessions

    def health(self, *, brief: bool = False) -> Health:
        """Whether the store answers, how fast, and, unless *brief*, what it is. Raises nothing: a refusal is logged."""
        store = self.backend.store
        try:
            latency_ms = round(store.ping(), 3)
            return Health(True, latency_ms, **({} if brief else store.about()._asdict()))
        except StoreUnavailable as error:
            can_start = self.can_start()
            return Health(False, None, degraded=can_start, can_start=can_start, problem=error.reason)
        except StoreError as error:
            _log.error("health: %s", error)
            return Health(False, None, problem=str(error))

    def can_start(self) -> bool:
        """Whether sessions can be started while the store is away."""
        return False

    def close(self) -> None:
        """Give up the connections; the next call opens new ones."""
        self.backend.store.close()

    # ---- for the rooms that have more operations

    def resolved(self, session_id: str, owner: Owner | Scope) -> tuple[Backend, Owner]:
        """What to work on, for whom, once both names are checked."""
        check_session_id(session_id)
        return self.backend, self.whose(owner)

    def spend(self, owner: Owner) -> None:
        """A turn begins: TooManyTurns if its owner begins too many. While the store is away nobody counts."""
        most = self.backend.settings.max_turns_per_minute
        if most and isinstance(owner, str):
            with contextlib.suppress(StoreUnavailable):
                wait_ms = self.backend.store.spend(owner, most)
                if wait_ms:
                    raise TooManyTurns(wait_ms)

    def whose(self, owner: Owner | Scope) -> Owner:
        """Whom an operation is for, once the name is checked."""
        whose = self.caller() if owner is CALLER else owner
        if whose is not None and not isinstance(whose, Scope):
            check_name(whose, "owner")
        return whose

    def ttl_ms(self, ttl: float | None) -> int | None:
        """A lifetime in seconds as stores have it; InvalidInput if it is none."""
        if ttl is None:
            return None
        check_lifetime(ttl, self.backend.settings.max_ttl)
        return round(ttl * 1000)

    def history_of(self, session: AnySession) -> list[Any]:
        """The bodies of a session's messages, oldest first; [] where it has no history."""
        if isinstance(session, dict):
            return list(session.get(self.backend.settings.history_key, ()))
        return list(session)

    def data_of(self, session: AnySession) -> dict[str, Any]:
        """A session's fields without the history; {} for a bare list."""
        if isinstance(session, dict):
            history_key = self.backend.settings.history_key
            return {name: value for name, value in session.items() if name != history_key}
        return {}


def _check_content(data: object) -> None:
    if not isinstance(data, (Mapping, list)):
        raise InvalidInput(f"a session is a dict or a list, not a {type(data).__name__}; nothing was written")
