"""ConversationStore: settings > client > store > blueprint, per application. Only this room knows every other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import redis
from flask import Blueprint, Flask, has_request_context
from redis.cluster import RedisCluster

from .app import request_end
from .app.namespaces import Namespace, Namespaces
from .app.state import AppState, make_state
from .config import load_settings, share_keys
from .domain.messages import Message, Usage
from .domain.results import ANY, CALLER, Health, Owner, Receipt, Role, Scope
from .domain.validation import check_name, check_whole
from .errors import ConfigurationError
from .http.anonymous_owner import AnonymousOwners
from .http.blueprint import make_blueprint
from .http.openapi.document import Served, add
from .mapping.converters import converter_of
from .mapping.mapping import SessionMapping
from .operations import aliases, branching, chats, messages, owners, rotation, transfer, updates
from .operations.replies import Replier, TurnEnded, first_exchange
from .operations.sessions import Backend, Conversations
from .operations.turns import Policy, Turn, begin
from .sessions.content import Content
from .sessions.session import AnySession
from .stores.redis.cluster import LazyCluster
from .urls import masked

if TYPE_CHECKING:
    from apispec import APISpec

_H = TypeVar("_H", bound=Callable[[Turn], Any])


class ConversationStore(Conversations):
    """Conversations of a Flask app, kept in Redis or Valkey.

    One object serves any number of applications; its operations work on the store of ``current_app``.

    Args:
        app: Calls ``init_app(app)``.
        name: Under which the store and its blueprint are registered; a second store in an application needs another one.
        config_prefix: What the names of its settings begin with.
        client: A redis-py client to use instead of ``CONVSTORE_URL``. It must not decode responses.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        name: str = "convstore",
        config_prefix: str = "CONVSTORE",
        client: redis.Redis | RedisCluster | None = None,
    ) -> None:
        if config_prefix.startswith("CONVSTORE_"):
            raise ConfigurationError(
                [f"config_prefix {config_prefix!r} looks like settings of CONVSTORE: begin it with another word"]
            )
        self.name = name
        self._config_prefix = config_prefix
        self._client = client
        self._replier: Replier | None = None
        self._namespaces = Namespaces(self, self._state)
        self._sessions = SessionMapping(self, request_end.request_unit)
        self._owner_loader: Callable[[], str | int | None] | None = None
        self._anonymous = AnonymousOwners(name)
        self.blueprint: Blueprint = make_blueprint(name, self, lambda: self._replier, self._served)
        self.blueprint.before_request(self._anonymous.check_origin)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings and register client and store with *app*. Opens no connection.

        Called again with the same app it reads the settings anew, and a new client and store take the place of those before:
        what was in ``memory://`` is gone. What the app calls for each request it calls once.

        Raises:
            ConfigurationError: Settings are unknown or bad (all of them are listed), or the name is taken.
        """
        states: dict[str, AppState] = app.extensions.setdefault(request_end.KEY, {})
        if self.name in states and states[self.name].convstore is not self:
            raise ConfigurationError(
                [f"this app has a store named {self.name!r} already: give the second one a name and a config_prefix"]
            )
        settings = load_settings(app.config, os.environ, self._config_prefix)
        state = make_state(self, app, settings, self._client)
        for name, other in states.items():
            same_server = state.client and other.client and masked(settings.url) == masked(other.settings.url)
            if name != self.name and same_server and share_keys(settings, other.settings):
                names = f"{self._config_prefix}_PREFIX (and {self._config_prefix}_CONVERSATION_PREFIX if you use it)"
                raise ConfigurationError([f"the stores {name!r} and {self.name!r} would share their keys: set {names}"])
        if not states:
            request_end.install(app, state.sender())
        states[self.name] = state
        if settings.anonymous_owner and self._anonymous.write not in app.after_request_funcs.get(None, ()):
            app.after_request(self._anonymous.write)

    @property
    def backend(self) -> Backend:
        return self._state().backend

    def health(self, *, brief: bool = False) -> Health:
        """See ``Conversations.health``; it knows of the circuit and of the journal too.

        ``/health`` shows ``health().public()`` only.
        """
        return self._state().with_surroundings(super().health(brief=brief))

    def can_start(self) -> bool:
        journal = self._state().journal
        return journal is not None and journal.is_usable()

    @property
    def namespaces(self) -> Collection[Namespace]:
        """What lies beside the sessions, as far as it was asked for."""
        return self._namespaces.known()

    @property
    def client(self) -> redis.Redis | None:
        """The Redis client of the current app; None for ``memory://``. That of a Cluster is a ``RedisCluster``."""
        client = self._state().client
        return client.get()[0] if isinstance(client, LazyCluster) else client

    def caller(self) -> Owner:
        """In a request its owner; None is nobody in particular, who sees sessions without an owner. Outside one the server,
        who sees all."""
        if has_request_context():
            return self._request_owner()
        stream = request_end.stream()
        return stream.callers[self] if stream else ANY

    def owner_loader(self, loader: Callable[[], str | int | None]) -> Callable[[], str | int | None]:
        """Register what tells whose a request is: a function to the owner's name, a user's id say, or None for nobody.

        It is asked at each operation in a request. For None only sessions without an owner are there; with
        ``CONVSTORE_ANONYMOUS_OWNER`` None becomes the browser's own owner, by a signed cookie.
        """
        self._owner_loader = loader
        return loader

    def _request_owner(self) -> str | None:
        owner: Any = self._owner_loader() if self._owner_loader else None
        if type(owner) is int:
            return str(owner)
        if owner is not None:
            return check_name(owner, "owner")
        return self._anonymous.current() if self._state().settings.anonymous_owner else None

    @property
    def sessions(self) -> SessionMapping:
        """The sessions as a mapping, the drop-in for ``conversation_sessions = {}``: what is changed in its values during a
        request is written when the request ends."""
        return self._sessions

    def mapping(
        self,
        name: str,
        *,
        default: Callable[[], Any] | None = None,
        load: Any = None,
        dump: Callable[[Any], Any] | None = None,
        ttl: float | None = None,
        history_key: str | None = None,
        conflict: Literal["merge", "raise"] | None = None,
    ) -> SessionMapping:
        """Another mapping, with keys of its own; the same name is the same mapping. May be called before ``init_app``.

        Args:
            name: 1 to 100 characters, no braces, no colons, no control characters.
            default: Makes the value of a key that is not there, as in a ``defaultdict``.
            load: Makes a value from JSON: a function; or a dataclass, attrs class, pydantic model, marshmallow schema.
            dump: Makes JSON of a value: a dict, a list, or any other JSON value; needed if *load* is a function.
            ttl: Seconds that its values live from each interaction; None: as sessions do.
            history_key: The key of a dict, from *dump* too, that holds messages, which merge when they are appended.
            conflict: What happens to a field that two requests have changed; None: what ``CONVSTORE_CONFLICT`` says.
        """
        return SessionMapping(
            self._namespaces.of_mapping(name, ttl=ttl, history_key=history_key, conflict=conflict),
            request_end.request_unit,
            name=name,
            default=default,
            converter=converter_of(load, dump),
        )

    @overload
    def reply(self, handler: _H) -> _H: ...

    @overload
    def reply(self, *, last: int | None = None) -> Callable[[_H], _H]: ...

    def reply(self, handler: _H | None = None, *, last: int | None = None) -> _H | Callable[[_H], _H]:
        """Register what answers a user's message: a function from a ``Turn`` to a text, a message dict or None.

        It runs when the message is stored already. If it raises, the message stays, marked ``failed``, and the client
        gets a 502. It may be ``async def``.

        Args:
            last: How many messages ``turn.history`` shall have, the new one included; None: all.
        """
        if last is not None:
            check_whole(last, "last", 1)

        def register(handler: _H) -> _H:
            self._replier = Replier(handler, last)
            return handler

        return register if handler is None else register(handler)

    def turn(
        self,
        session_id: str,
        message: Any,
        *,
        last: int | None = None,
        token: str | None = None,
        policy: Policy | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Turn:
        """Store *message* and take the turn: ``with convstore.turn(sid, message) as turn: turn.reply(llm(turn.history))``.

        Args:
            last: How many messages ``turn.history`` shall have, the new one included; None: all.
            token: Your own name for this turn. One that died or failed can be taken again with it, if nobody has written
                since.
            policy: What to do while another turn is in progress: ``reject``, ``wait`` (it occupies its worker) or
                ``supersede``; None: what ``CONVSTORE_TURN_POLICY`` says.

        Raises:
            TurnInProgress: Another turn is in progress; nothing was written.
            TurnEnded: The token's turn was ended already; the error has the message and the reply. Nothing was written.
            TurnLost: The token's turn was not ended, and others have written since; nothing was written.
            SessionNotFound, TokenReused, NotSerializable, TooLarge: Nothing was written.
        """
        turn, begun = begin(self, session_id, message, last=last, token=token, policy=policy, owner=owner)
        if turn is None:
            raise TurnEnded(session_id, first_exchange(self, session_id, begun, owner))
        return turn

    @overload
    def resolve(
        self,
        alias: str,
        *,
        create: Literal[True],
        data: Content | None = None,
        ttl: float | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> AnySession: ...

    @overload
    def resolve(
        self,
        alias: str,
        *,
        create: bool = False,
        data: Content | None = None,
        ttl: float | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> AnySession | None: ...

    def resolve(
        self,
        alias: str,
        *,
        create: bool = False,
        data: Content | None = None,
        ttl: float | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> AnySession | None:
        """The session that an outside conversation id leads to, ``"telegram:123"`` say; None if there is none.

        With *create* there always is one: where the alias leads nowhere, or to a session that was deleted or has expired, a
        new session is made, one and the same for any number of callers at once. An alias lives for 30 days at least, and a
        day longer than its session. It is the owner's: another owner's alias of the same name is another one.

        Args:
            data: What a new session holds, and *ttl* its lifetime in seconds, as in ``save_session``; None: no messages.
            last: Only so many of its newest messages, as in ``get_session``: 0 for a turn, which reads them itself.
        """
        return aliases.resolve(self, alias, create=create, data=data, ttl=ttl, last=last, owner=owner)

    def link(self, alias: str, session_id: str, *, owner: Owner | Scope = CALLER) -> None:
        """Let *alias* lead to a session, wherever it led before.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        aliases.link(self, alias, session_id, owner=owner)

    def unlink(self, alias: str, *, owner: Owner | Scope = CALLER) -> bool:
        """Let *alias* lead nowhere; whether it led anywhere. Its session stays."""
        return aliases.unlink(self, alias, owner=owner)

    def aliases(self, session_id: str, *, owner: Owner | Scope = CALLER) -> list[str]:
        """The aliases that lead to a session, sorted; [] if there is no such session."""
        return aliases.aliases(self, session_id, owner=owner)

    def clear(self, alias: str, *, owner: Owner | Scope = CALLER) -> bool:
        """Delete the session that *alias* leads to, and the alias; whether there was a session."""
        return aliases.clear(self, alias, owner=owner)

    def compact(
        self,
        session_id: str,
        summary: branching.Summary,
        *,
        keep: int = 10,
        policy: Policy | None = None,
        owner: Owner | Scope = CALLER,
    ) -> AnySession:
        """Go on in a new session, which begins with a summary and the last *keep* messages; the new session.

        It has the old one's data, owner, lifetime and aliases. The old one stays readable until it expires, and refuses
        messages with ``SessionMoved`` (409), which names the new one. While that happens nobody else has the turn.

        Args:
            summary: A text, which becomes a system message, or a message; or a function that makes one of them from the
                bodies of the messages that will be left out: perhaps none, and an earlier summary among them.
            policy: What to do while a turn is in progress, as in ``turn()``.

        Raises:
            ConflictError: Its messages were rewritten or dropped meanwhile. All is as it was.
            TurnInProgress, SessionNotFound, SessionMoved, NotSerializable, TooLarge: All is as it was.
        """
        self.sessions.flush()  # what this request has changed goes along
        return branching.compact(self, session_id, summary, keep=keep, policy=policy, owner=owner)

    def fork(self, session_id: str, seq: int | None = None, *, owner: Owner | Scope = CALLER) -> AnySession:
        """A new session with the same data, and the messages up to *seq* (None: all); the old one and its aliases stay.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        self.sessions.flush()  # what this request has changed goes along
        return branching.fork(self, session_id, seq, owner=owner)

    def update_session(
        self,
        session_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        remove: Iterable[str] = (),
        title: str | None = None,
        ttl: float | None = None,
        expected_version: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Set fields, whatever they were, *remove* others, set the title ("" removes it) and the lifetime. One round trip.

        Raises:
            SessionNotFound: No such session for this owner.
            ConflictError: It has not the expected version; nothing was written.
            NotSerializable, TooLarge, InvalidInput: Nothing was written.
        """
        if expected_version is not None:
            check_whole(expected_version, "expected_version")
        return updates.update(
            self,
            session_id,
            data,
            removed=tuple(remove),
            title=title,
            ttl=ttl,
            expected="" if expected_version is None else str(expected_version),
            owner=owner,
        )

    def messages(
        self, session_id: str, *, before: int | None = None, limit: int = 50, owner: Owner | Scope = CALLER
    ) -> messages.MessagePage:
        """A page of a session's messages, oldest first: the newest, or those with a seq below *before*, in one round trip.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        return messages.page(self, session_id, before=before, limit=limit, owner=owner)

    def edit_message(
        self,
        session_id: str,
        seq: int,
        body: Any,
        *,
        metadata: dict[str, Any] | None = None,
        keep: bool = False,
        owner: Owner | Scope = CALLER,
    ) -> Message:
        """Put another body in the place of the message *seq*, which keeps its seq and its time; the message as it is then.

        Args:
            body: Any JSON value, or a ``Message``, whose metadata count then.
            metadata: None leaves it as it is.
            keep: Keep the body before in ``Message.edits``.

        Raises:
            MessageNotFound: The session has no such message, or there is no such session for this owner.
            ConflictError: Others edited it at the same time; nothing was written.
            NotSerializable, TooLarge: Nothing was written.
        """
        return messages.edit(self, session_id, seq, body, metadata=metadata, keep=keep, owner=owner)[0]

    def redact_message(self, session_id: str, seq: int, *, owner: Owner | Scope = CALLER) -> Message:
        """Remove what a message says, for good: its content, metadata and earlier bodies. Its place, role and seq stay.

        A title that was made of it goes too.

        Raises:
            MessageNotFound, ConflictError: As ``edit_message``.
        """
        return messages.redact(self, session_id, seq, owner=owner)[0]

    def share(self, session_id: str, name: str, role: Role = "reader", *, owner: Owner | Scope = CALLER) -> None:
        """Let another owner, *name*, read a session, or, as a ``writer``, write to it too.

        A writer may not delete, share or compact it, nor give it a lifetime, an alias or another id. Readers too may fork
        it: the new session is their own.

        Raises:
            SessionNotFound: No such session for this owner.
            Forbidden: It is shared with this owner only.
        """
        updates.share(self, session_id, name, role, owner=owner)

    def unshare(self, session_id: str, name: str, *, owner: Owner | Scope = CALLER) -> None:
        """Let *name* not see a session any more, from this moment on. Raises as ``share``."""
        updates.share(self, session_id, name, None, owner=owner)

    def rotate_id(self, session_id: str, *, new_owner: str | None = None, owner: Owner | Scope = CALLER) -> AnySession:
        """The same session under a new id, and of *new_owner* if that is given; the old id leads nowhere from then on.

        For a login: who knew the id before does not know the new one, and what an owner before has shared is not shared any
        more. Its messages are numbered from 1 again, if the oldest were dropped. A turn in progress is lost.

        Raises:
            SessionNotFound: No such session for this owner.
            Forbidden: It is shared with this owner only.
            SessionMoved: Its conversation goes on in another one: rotate that one.
            ConflictError: Others write to it again and again; all is as it was.
        """
        return rotation.rotate_id(self, session_id, new_owner=new_owner, owner=owner)

    def current_session(self, *, owner: Owner | Scope = CALLER) -> AnySession | None:
        """The owner's session with the last interaction, to within a minute; None if there is none.

        Raises:
            OwnerRequired: Nobody in particular is calling.
        """
        return owners.current(self, owner=owner)

    def usage(self, *, owner: Owner | Scope = CALLER) -> Usage:
        """What the messages of all the owner's sessions cost, in tokens of a model, without sessions that are gone.

        A session's own: ``session.usage``. It walks through the owner's index.

        Raises:
            OwnerRequired: Nobody in particular is calling.
        """
        return owners.usage(self, owner=owner)

    def export_owner(self, *, after: str | None = None, owner: Owner | Scope = CALLER) -> Iterator[dict[str, Any]]:
        """Everything of an owner, one session after the other, as JSON values; it is no interaction.

        Args:
            after: The last ``cursor`` that an interrupted export has given, with every hundredth session: go on behind it.

        Raises:
            OwnerRequired: Nobody in particular is calling.
        """
        return transfer.export(self, after=after, owner=owner)

    def import_sessions(self, sessions: Iterable[Mapping[str, Any]], *, owner: Owner | Scope = CALLER) -> int:
        """Take in what ``export_owner`` gave, for this owner; how many sessions. Those that are there stay as they are.

        Raises:
            OwnerRequired: Nobody in particular is calling.
            InvalidInput: One is none of ours; those before it were taken in. Repeating the call is harmless.
            SessionNotFound: One has an id that is another owner's.
        """
        return transfer.take_in(self, sessions, owner=owner)

    def delete_owner(self, *, owner: Owner | Scope = CALLER) -> int:
        """Delete all sessions of an owner, and their aliases; how many. Interrupted, call it again.

        Raises:
            OwnerRequired: Nobody in particular is calling.
        """
        return owners.delete(self, owner=owner)[0]

    def save_message(
        self,
        key: Hashable,
        role: str,
        content: Any,
        *,
        metadata: dict[str, Any] | None = None,
        token: str | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Add ``{"role": …, "content": …}`` to the chat of *key*, which begins with it if there is none; one round trip.

        Chats are apart from the sessions: their keys begin with ``CONVSTORE_CONVERSATION_PREFIX``, and they live for
        ``CONVSTORE_CONVERSATION_TTL``, 7 days, from the last interaction.

        Args:
            key: Whose chat it is: a text, a number, None, or a tuple of these.
            token: Your own name for this message: repeating the call with it changes nothing.

        Raises:
            NotSerializable, TooLarge, TokenReused: Nothing was written.
        """
        return chats.save_message(
            self._namespaces.of_chats(), key, role, content, metadata=metadata, token=token, owner=owner
        )

    def get_conversation(self, key: Hashable, *, last: int | None = None, owner: Owner | Scope = CALLER) -> list[Any]:
        """The messages of the chat of *key*, its *last* ones or all, oldest first; [] if there is none. One round trip."""
        return chats.get_conversation(self._namespaces.of_chats(), key, last=last, owner=owner)

    def clear_conversation(self, key: Hashable, *, owner: Owner | Scope = CALLER) -> bool:
        """Delete the chat of *key*; whether there was one. One round trip."""
        return chats.clear_conversation(self._namespaces.of_chats(), key, owner=owner)

    def document(self, spec: APISpec) -> None:
        """Add the routes of the blueprint, wherever the current app has it, to a document of the app's own.

        ``GET /sessions/openapi.json`` is a document of these routes alone. Here the names of operations and components begin
        with the blueprint's: ``convstore.start_session``, ``convstore.Session``.

        Args:
            spec: Of OpenAPI 3.1.

        Raises:
            InvalidInput: It is of an older one.
        """
        for name, blueprint in request_end.app().blueprints.items():
            if blueprint is self.blueprint:
                add(spec, self._served(name), f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.")

    def _served(self, name: str) -> Served:
        """What the current app serves of this store, by the blueprint of that name."""
        app, settings = request_end.app(), self._state().settings
        has_owners = self._owner_loader is not None or settings.anonymous_owner
        return Served(name=name, rules=app.url_map.iter_rules(), settings=settings, has_owners=has_owners)

    def _state(self) -> AppState:
        try:
            return request_end.app().extensions[request_end.KEY][self.name]  # type: ignore[no-any-return]
        except KeyError:
            raise RuntimeError(f"the store {self.name!r} is not registered with this app: call init_app(app)") from None
