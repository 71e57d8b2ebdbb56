"""AppConversations: the conversations of an application, whichever way the application is found."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from ..domain.figures import Figures, Minute
from ..domain.results import Health
from ..domain.types import ANY, CALLER, Owner, Scope
from ..operations import figures
from ..operations.access import Access
from ..operations.awaitable import AwaitableConversations
from ..operations.conversations import Conversations

if TYPE_CHECKING:
    import redis

    from .namespaces import Namespace, Namespaces
    from .state import AppState


class AppConversations(Conversations):
    """The operations of a store in an application."""

    _namespaces: Namespaces

    @abc.abstractmethod
    def _state(self) -> AppState:
        """Find the state of the store in the application.

        Raises:
            RuntimeError: The store is not registered with the application.
        """

    @abc.abstractmethod
    def _caller(self, state: AppState) -> Owner:
        """Name the owner for whom the running code works."""

    @abc.abstractmethod
    def _newcomers(self) -> str | None:
        """Name all callers from one place who have just become owners. None: this one is known."""

    @property
    def aio(self) -> AwaitableConversations:
        """The operations, awaited: ``await convstore.aio.append(session_id, "hi")``. Each runs in a thread."""
        return AwaitableConversations(self)

    @property
    def client(self) -> redis.Redis | None:
        """The Redis client of the app. None for ``memory://``. A Cluster has a ``RedisCluster``."""
        from ..stores.redis.cluster import LazyCluster

        client = self._state().client
        return client.get()[0] if isinstance(client, LazyCluster) else client

    def health(self, *, brief: bool = False) -> Health:
        """Ask store, circuit and journal how they are. A refusal is logged, not raised.

        ``/health`` shows ``health().public()`` only.

        Args:
            brief: Leave out what the server says of itself.
        """
        return self._state().health(brief=brief)

    def figures(self, owner: Owner = ANY) -> Figures:
        """Tell how many sessions there are, how large, and how many have started and ended. For operators.

        The cost has a bound, whatever is there: what is many is estimated from a sample. How many have started and ended is
        counted where ``CONVSTORE_FIGURES`` is on. Asking is no interaction.

        Args:
            owner: A name, or None for sessions without an owner: only these, in the places that this process knows.
                ``ANY``, also in a request: all sessions.

        Raises:
            InvalidInput: The owner is no name.
            StoreUnavailable: The server is away.
        """
        state = self._state()
        state.measuring.send_figures()
        return figures.figures(state.figures, state.places(), owner)

    def timeline(self, minutes: int = 60) -> list[Minute]:
        """List the last *minutes*, oldest first, the running one included. Where nothing was counted they have zeros.

        Args:
            minutes: 1 to 1,440. Only with ``CONVSTORE_FIGURES`` anything is counted, and kept for a day.

        Raises:
            InvalidInput: The number is none of these.
            StoreUnavailable: The server is away.
        """
        state = self._state()
        state.measuring.send_figures()
        return figures.timeline(state.figures, minutes)

    def _access(self, owner: Owner | Scope = CALLER) -> Access:
        state = self._state()
        if owner is not CALLER:
            return Access(state.backend, owner)
        return Access(state.backend, self._caller(state), self._newcomers)

    def _chats(self, owner: Owner | Scope = CALLER) -> Access:
        return self._access_in(self._namespaces.of_chats(), owner)

    def _everywhere(self, owner: Owner | Scope = CALLER) -> dict[str, Access]:
        main = self._access(owner)
        self._namespaces.of_chats()
        beside = {known.place: self._access_in(known, main.owner) for known in self._namespaces.known()}
        return {"sessions": main, **beside}

    def _access_in(self, namespace: Namespace, owner: Owner | Scope = CALLER) -> Access:
        state = self._state()
        return Access(namespace.backend_in(state), self._caller(state) if owner is CALLER else owner)
