"""ConversationStore: settings > client > store > blueprint, per application. Only this room knows every other."""

from __future__ import annotations

import logging
import os
import re
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import redis
from flask import Blueprint, Flask, Response, has_request_context
from flask.signals import request_started
from redis.cluster import RedisCluster

from .app import current, first_look, json_provider, measuring, request_end
from .app.app_conversations import AppConversations
from .app.bound import BoundStore
from .app.module_globals import ModuleGlobals, Replacement
from .app.namespaces import Namespaces
from .config import Settings, load_settings, share_keys
from .domain.types import ANY, CALLER, Lifetime, Owner, Scope
from .domain.validation import check_whole, name_problem
from .errors import ConfigurationError, OwnerRequired
from .http.anonymous_owner import TOO_LATE, AnonymousOwners, check_secret_key
from .http.blueprint import make_blueprint
from .http.door import Door, Served
from .http.routes import ENDPOINTS
from .mapping.converters import converter_of, converter_of_messages
from .mapping.mapping import SessionMapping
from .mapping.unit_of_work import Unit
from .operations.access import Access
from .operations.replies import Replier
from .operations.turns import Turn
from .urls import masked

if TYPE_CHECKING:
    from apispec import APISpec
    from marshmallow import Schema

    from .app.state import AppState

_log = logging.getLogger("flask_convstore")

_H = TypeVar("_H", bound=Callable[[Turn], Any])
_V = TypeVar("_V")


LIVE: weakref.WeakSet[ConversationStore] = weakref.WeakSet()
"""Every store of this process. The fixtures of ``pytest_plugin`` lead them elsewhere."""


class ConversationStore(AppConversations):
    """Conversations of a Flask app, kept in Redis or Valkey.

    One object serves any number of applications. Its operations work on the store of ``current_app``.

    Args:
        app: Calls ``init_app(app)``.
        name: Under which the store and its blueprint are registered. A second store in an application needs another one.
        config_prefix: Beginning of the names of its settings.
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
        if app is not None and not isinstance(app, Flask):
            kind = type(app).__name__
            cure = 'write ConversationStore(app), and name the server by app.config["CONVSTORE_URL"]'
            raise ConfigurationError([f"the first argument is the Flask app, not a {kind}: {cure}"])
        if config_prefix.startswith("CONVSTORE_"):
            raise ConfigurationError(
                [f"config_prefix {config_prefix!r} looks like settings of CONVSTORE: begin it with another word"]
            )
        LIVE.add(self)
        self.name = name
        self._config_prefix = config_prefix
        self._client = client
        self._replier: Replier | None = None
        self._apps: list[Flask] = []
        self._namespaces = Namespaces()
        self._sessions = SessionMapping(self._access, self._unit)
        self._globals = ModuleGlobals()
        self._owner_loader: Callable[[], str | int | None] | None = None
        self._anonymous = AnonymousOwners(name)
        self._is_inspected = False
        door = Door(
            lambda: self._state().settings,
            self._access,
            lambda: self._replier,
            self._served,
            lambda: self.health(brief=True),
            lambda: measuring.page(current.app().extensions[current.KEY].values()),
        )
        self.blueprint: Blueprint = make_blueprint(name, door)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the settings and register client and store with *app*. Waits for no server.

        A thread looks once whether the server of a URL can be reached, and logs a warning if it cannot.

        Called again with the same app, this reads the settings anew, and a new client and store take the place of those
        before. The content of ``memory://`` is gone then.

        Raises:
            ConfigurationError: Settings are unknown or bad (all of them are listed), or the name is taken.
        """
        from .app.state import make_state  # brings every store, and SQLite

        states: dict[str, AppState] = app.extensions.setdefault(current.KEY, {})
        if self.name in states and states[self.name].convstore is not self:
            raise ConfigurationError(
                [f"this app has a store named {self.name!r} already: give the second one a name and a config_prefix"]
            )
        settings = load_settings(app.config, os.environ, self._config_prefix, endpoints=ENDPOINTS)
        measuring.check(settings, self._config_prefix)
        state = make_state(self, app, settings, self._client)
        self._refuse_shared_keys(state, states)
        if not states:
            request_end.install(app)
            json_provider.install(app)
        states[self.name] = state
        self._count_for_inspector(state)
        state.tell_where()
        if app not in self._apps:
            self._apps.append(app)
            app.shell_context_processor(lambda: {self.name: self})  # flask shell
        functions = app.after_request_funcs[None]
        if settings.anonymous_owner and self._write_cookie not in functions:
            functions.insert(1, self._write_cookie)  # runs behind those of the app, and before the changes are written
            request_started.connect(self._check_secret_key, app)
        if self._client is None:
            first_look.look(state)
        if state.client is None:
            request_started.connect(self._check_memory, app)

    def _check_secret_key(self, app: Flask, **_: Any) -> None:
        """Tell at the first request that anonymous owners lack a key. Before that, the app may still set one."""
        request_started.disconnect(self._check_secret_key, app)
        try:
            check_secret_key(app)
        except ConfigurationError as error:
            _log.error("%s", error)

    def _check_memory(self, app: Flask, **_: Any) -> None:
        """Warn at the first request of an app that serves people from memory. Before that, the app may still be a test's."""
        request_started.disconnect(self._check_memory, app)
        is_tried_out = app.testing or app.debug or "PYTEST_CURRENT_TEST" in os.environ
        if not is_tried_out and self._state_in(app).client is None:
            _log.warning(
                "the store %r keeps its sessions in the memory of this process: other workers do not see them, and they are "
                "gone when it ends. Name a server by %s_URL, such as redis://localhost:6379/0.",
                self.name,
                self._config_prefix,
            )

    def states(self) -> dict[Flask, AppState]:
        """Find the state of this store in each app that it is registered with, for the fixtures of ``pytest_plugin``."""
        found = {app: app.extensions.get(current.KEY, {}).get(self.name) for app in self._apps}
        return {app: state for app, state in found.items() if state is not None and state.convstore is self}

    def replaced_globals(self) -> list[Replacement]:
        """Find the assignments in the app's code that put another value in the place of a mapping, for ``doctor``."""
        return self._globals.replacements()

    def _refuse_shared_keys(self, state: AppState, others: dict[str, AppState]) -> None:
        for name, other in others.items():
            if name == self.name or not (state.client and other.client):
                continue
            is_same_server = masked(state.settings.url) == masked(other.settings.url)
            if is_same_server and share_keys(state.settings, other.settings):
                problem = f"the stores {name!r} and {self.name!r} would share their keys"
                raise ConfigurationError([f"{problem}: {self._cure_of_shared_keys(other)}"])

    def _cure_of_shared_keys(self, other: AppState) -> str:
        """Say how this store gets keys of its own beside *other*."""
        prefix = self._config_prefix
        if other.convstore._config_prefix != prefix:
            return f"set {prefix}_PREFIX (and {prefix}_CONVERSATION_PREFIX if you use it)"
        word = re.sub(r"\W", "_", self.name).upper()
        return f"both read the settings {prefix}_…. Give this one config_prefix={word!r}, and set {word}_PREFIX"

    def on(self, app: Flask, *, owner: Owner | Scope = CALLER) -> BoundStore:
        """Bind the store to *app*, for threads and jobs that run without an app context.

        ``store = convstore.on(app)`` in a view goes on for the owner of that view, in any thread.

        Args:
            owner: The owner for whom the store works outside of requests: a name, None (sessions without owner) or ``ANY``.
                By default the owner of the running request, outside of one ``ANY``.

        Raises:
            RuntimeError: The store is not registered with *app*.
        """
        state = self._state_in(app)
        if owner is CALLER:
            owner = self._caller(state) if current.is_in_request_of(state.app) else ANY
        return BoundStore(self, state.app, Access(state.backend, owner).owner)

    def _has_owners(self, settings: Settings) -> bool:
        """Tell whether requests have owners, by ``owner_loader`` or by the anonymous owner."""
        return self._owner_loader is not None or settings.anonymous_owner

    def owner_loader(self, loader: Callable[[], str | int | None]) -> Callable[[], str | int | None]:
        """Register a function that names the owner of a request, such as a user's id, or None for nobody.

        The function is asked at each operation in a request. For None only sessions without an owner are there. With
        ``CONVSTORE_ANONYMOUS_OWNER`` None becomes the browser's own owner, by a signed cookie.
        """
        self._owner_loader = loader
        return loader

    def caller(self) -> Owner:
        """Name the owner of the current request, None if it is nobody. Outside a request ``ANY``: the server sees all."""
        return self._caller(self._state())

    @property
    def sessions(self) -> SessionMapping:
        """The sessions as a mapping, the drop-in for ``conversation_sessions = {}``.

        Changes of its values are written when the request, or the app context outside of one, ends.
        """
        module = sys._getframe(1).f_globals
        if id(module) not in self._globals.known:
            self._globals.note(module)
        return self._sessions

    @overload
    def mapping(
        self,
        name: str,
        *,
        load: Schema | type[Schema],
        default: Callable[[], Any] | None = None,
        dump: Callable[[Any], Any] | None = None,
        ttl: Lifetime | None = None,
        history_key: str | Sequence[str] | None = None,
        conflict: Literal["merge", "raise"] | None = None,
        types: Literal["plain", "tagged"] | None = None,
    ) -> SessionMapping[Any]: ...

    @overload
    def mapping(
        self,
        name: str,
        *,
        load: type[_V],
        default: Callable[[], _V] | None = None,
        dump: Callable[[_V], Any] | None = None,
        ttl: Lifetime | None = None,
        history_key: str | Sequence[str] | None = None,
        conflict: Literal["merge", "raise"] | None = None,
        types: Literal["plain", "tagged"] | None = None,
    ) -> SessionMapping[_V]: ...

    @overload
    def mapping(
        self,
        name: str,
        *,
        load: Callable[[Any], _V],
        dump: Callable[[_V], Any],
        default: Callable[[], _V] | None = None,
        ttl: Lifetime | None = None,
        history_key: str | Sequence[str] | None = None,
        conflict: Literal["merge", "raise"] | None = None,
        types: Literal["plain", "tagged"] | None = None,
    ) -> SessionMapping[_V]: ...

    @overload
    def mapping(
        self,
        name: str,
        *,
        default: Callable[[], Any] | None = None,
        load: Any = None,
        dump: Callable[[Any], Any] | None = None,
        messages: Any = None,
        ttl: Lifetime | None = None,
        history_key: str | Sequence[str] | None = None,
        conflict: Literal["merge", "raise"] | None = None,
        types: Literal["plain", "tagged"] | None = None,
    ) -> SessionMapping[Any]: ...

    def mapping(
        self,
        name: str,
        *,
        default: Callable[[], Any] | None = None,
        load: Any = None,
        dump: Callable[[Any], Any] | None = None,
        messages: Any = None,
        ttl: Lifetime | None = None,
        history_key: str | Sequence[str] | None = None,
        conflict: Literal["merge", "raise"] | None = None,
        types: Literal["plain", "tagged"] | None = None,
    ) -> SessionMapping[Any]:
        """Make another mapping, with keys of its own. The same name is the same mapping. May be called before ``init_app``.

        Args:
            name: 1 to 100 characters, no braces, no colons, no control characters.
            default: Makes the value of a missing key, as in a ``defaultdict``.
            load: The type of the values: a dataclass, attrs class, pydantic model, marshmallow schema, TypedDict, named
                tuple, plain class, or an annotation such as ``list[Message]``. Or a function that makes a value from JSON.
            dump: Makes JSON of a value: a dict, a list, or any other JSON value. Needed if *load* is a function.
            messages: The class of the messages in a value that is a list, or under its history key, or an annotation of
                several classes. A message that does not fit stays as JSON has it. Instead of *load*.
            ttl: Seconds that its values live from each interaction. None: as sessions do.
            history_key: Keys of a dict, from *dump* too: the first one that holds a list is its history, of which only new
                messages are written. None takes ``CONVSTORE_HISTORY_KEY``.
            conflict: Answer to two changes of one field, ``merge`` or ``raise``. None takes ``CONVSTORE_CONFLICT``.
            types: Form of types that JSON lacks, ``plain`` or ``tagged``. None takes ``CONVSTORE_TYPES``.
        """
        if messages is not None and not load is dump is None:
            raise TypeError(
                "messages= is for values without load= and dump=: annotate the messages in the class of load="
            )
        self._globals.note(sys._getframe(1).f_globals)
        namespace = self._namespaces.of_mapping(name, ttl=ttl, history_key=history_key, conflict=conflict, types=types)
        return SessionMapping(
            lambda: self._access_in(namespace),
            self._unit,
            name=name,
            default=default,
            converter=converter_of(load, dump) if messages is None else converter_of_messages(messages),
        )

    @overload
    def reply(self, handler: _H) -> _H: ...

    @overload
    def reply(self, *, last: int | None = None) -> Callable[[_H], _H]: ...

    def reply(self, handler: _H | None = None, *, last: int | None = None) -> _H | Callable[[_H], _H]:
        """Register the handler of users' messages: a function from a ``Turn`` to a text, a message dict or None.

        The message is stored already when the handler runs. If the handler raises, the message stays, marked ``failed``, and
        the client gets a 502. The handler may be ``async def``.

        Args:
            last: Most messages in ``turn.history``, the new one included. None: all.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"a reply handler is a function, not {handler!r}: write @convstore.reply(last={handler!r})")
        if last is not None:
            check_whole(last, "last", 1)

        def register(handler: _H) -> _H:
            self._replier = Replier(handler, last)
            return handler

        return register if handler is None else register(handler)

    def document(self, spec: APISpec) -> None:
        """Add the routes of the blueprint, wherever the current app has it, to a document of the app's own.

        ``GET /sessions/openapi.json`` is a document of these routes alone. Here the names of operations and components begin
        with the blueprint's: ``convstore.start_session``, ``convstore.Session``.

        Args:
            spec: A document of OpenAPI 3.1.

        Raises:
            InvalidInput: The document is of an older version.
        """
        from .http.openapi.document import add  # brings the forms, and so marshmallow

        for name, blueprint in current.app().blueprints.items():
            if blueprint is self.blueprint:
                add(spec, self._served(name), f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.")

    def inspector(
        self,
        access: Callable[[], Any] | None = None,
        *,
        name: str | None = None,
        url_prefix: str = "/convstore",
        hide_text: bool = False,
    ) -> Blueprint:
        """Make the blueprint of an inspector: pages on which operators see every session of every owner.

        Args:
            access: Asked before each answer: True, False (403), or a response to send instead, such as the way to a login.
            name: Name of the blueprint. None: ``<name of the store>_inspector``. A second one needs another name.
            url_prefix: Beginning of its paths.
            hide_text: Show sizes in the place of messages, titles and data. Then there is no export.

        Raises:
            ConfigurationError: There is no access check.
        """
        from .inspector.blueprint import make_inspector  # brings the templates

        name = name or f"{self.name}_inspector"
        blueprint = make_inspector(self._state, access, name, url_prefix, hide_text=hide_text)
        self._is_inspected = True
        for state in self.states().values():
            self._count_for_inspector(state)
        return blueprint

    # ---- inside

    def _count_for_inspector(self, state: AppState) -> None:
        """Count what an inspector shows, unless the setting says otherwise."""
        setting = f"{self._config_prefix}_FIGURES"
        if self._is_inspected and setting not in state.app.config and setting not in os.environ:
            state.count_figures()

    def _newcomers(self) -> str | None:
        return self._anonymous.newcomers() if has_request_context() else None

    def _caller(self, state: AppState) -> Owner:
        if has_request_context():
            return self._request_owner(state)
        streamed = current.making_part_of()
        if streamed is None:
            return ANY
        if self not in streamed.callers:
            raise OwnerRequired(TOO_LATE)
        return streamed.callers[self]

    def _request_owner(self, state: AppState) -> str | None:
        owner: Any = self._owner_loader() if self._owner_loader else None
        if type(owner) is int:
            return str(owner)
        if owner is not None:
            return self._loaded_owner(owner)
        return self._anonymous.current() if state.settings.anonymous_owner else None

    def _write_cookie(self, response: Response) -> Response:
        """Bring the cookie of an anonymous owner. A streamed response may use the store when its headers have left."""
        # The answer to an error is streamed too, but knows its length.
        if response.is_streamed and not response.direct_passthrough and response.content_length is None:
            self._request_owner(self._state())
        return self._anonymous.write(response)

    def _loaded_owner(self, owner: Any) -> str:
        """Check the owner that the app's loader has returned.

        Raises:
            ConfigurationError: The value names no owner. The client, who is told nothing, has no part in it.
        """
        reason = name_problem(owner)
        if reason:
            loader = self._owner_loader
            name = f"{getattr(loader, '__module__', '')}.{getattr(loader, '__qualname__', type(loader).__name__)}"
            given = "a text" if isinstance(owner, str) else f"a {type(owner).__name__}"
            cure = "return the id of the user, such as str(user.id), or None for nobody"
            raise ConfigurationError([f"the owner loader {name} returned {given}, and {reason}: {cure}"])
        return str(owner)

    def _served(self, name: str) -> Served:
        """Tell what the current app serves of this store, by the blueprint of that name."""
        app, settings = current.app(), self._state().settings
        has_owners = self._has_owners(settings)
        rules = tuple(
            (rule.rule, rule.endpoint) for rule in app.url_map.iter_rules() if rule.endpoint.startswith(f"{name}.")
        )
        return Served(name=name, rules=rules, settings=settings, has_owners=has_owners)

    def _app(self) -> Flask:
        """Find the application of the running code. Outside of any context it is the store's only one."""
        return current.app(self._only_app())

    def _only_app(self) -> Flask | None:
        return self._apps[0] if len(self._apps) == 1 else None

    def _unit(self) -> Unit:
        return current.current_unit(self._only_app())

    def _state(self) -> AppState:
        app = current.app(self._apps[0] if len(self._apps) == 1 else None)
        try:
            return app.extensions[current.KEY][self.name]  # type: ignore[no-any-return]
        except KeyError:
            raise self._unregistered() from None

    def _state_in(self, app: Flask) -> AppState:
        try:
            return app.extensions[current.KEY][self.name]  # type: ignore[no-any-return]
        except KeyError:
            raise self._unregistered() from None

    def _unregistered(self) -> RuntimeError:
        return RuntimeError(f"the store {self.name!r} is not registered with this app: call init_app(app)")
