"""A store around a store that makes a span of every operation, for ``tracing``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from ..domain.commands import CommitTurn, FeedReply, MoveConversation, RenewTurn
from ..domain.operation_names import OF_THREADS, OK, end_of, is_failure, operation_of, outcome_of
from ..domain.results import Begun
from ..domain.trips import TRIPS
from ..errors import SessionNotFound, TurnLost
from ..stores.store import Store, StoreAround
from .tracing import CONVERSATION, TurnSpans

_T = TypeVar("_T")

_OF_SESSION = frozenset({"load", "messages", "message", "salvage", "has_ended", "turn_lease"})
"""Calls whose first argument is the id of a session. That of others may be an owner's name."""


class TracedStore(StoreAround):
    """A ``Store``. See there for its methods."""

    def __init__(self, store: Store, spans: TurnSpans) -> None:
        super().__init__(store)
        self._spans = spans

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        kind = operation_of(method, arguments)
        asked = arguments[0] if arguments else None
        if kind in OF_THREADS:
            return self._untraced(asked, method, *arguments, **options)
        try:
            given, span = self._traced(kind, asked, method, *arguments, **options)
        except (TurnLost, SessionNotFound) as error:
            if isinstance(asked, _ENDS):
                self._spans.ended(asked.turn, outcome_of(error))
            raise
        if isinstance(given, Begun):
            self._began(asked, given, span)
        elif isinstance(asked, _ENDS):
            self._spans.ended(asked.turn, end_of(asked))
        return given

    def _began(self, command: Any, begun: Begun, span: Span) -> None:
        """Begin the span of a turn, unless the turn has ended before, or has no message."""
        if begun.snapshot and not begun.reply and command.element is not None:
            self._spans.begun(command, span)

    def _traced(
        self, kind: str, asked: Any, method: Callable[..., _T], *arguments: Any, **options: Any
    ) -> tuple[_T, Span]:
        """Do a call inside of a span. Return its answer, and the span, which has ended."""
        spans, trips = self._spans, TRIPS.count
        with spans.tracer.start_as_current_span(
            kind,
            kind=SpanKind.CLIENT,
            attributes={**spans.attributes, **_attributes(kind, asked)},
            record_exception=False,
            set_status_on_exception=False,
            **(spans.around_end(asked.turn) if isinstance(asked, _ENDS) else {}),
        ) as span:
            try:
                given = method(*arguments, **options)
            except BaseException as error:
                _note_failure(span, error)
                raise
            finally:
                span.set_attribute("convstore.round_trips", TRIPS.count - trips)
            _note_answer(span, given)
        return given, span

    def _untraced(self, asked: Any, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Do a call without a span. The spans of turns go on with their leases."""
        given = method(*arguments, **options)
        for command in asked if isinstance(asked, (list, tuple)) else (asked,):
            if isinstance(command, (RenewTurn, FeedReply)):
                self._spans.renewed(command.turn, command.lease_ms / 1000)
        return given


_ENDS = (CommitTurn, MoveConversation)


def _attributes(kind: str, asked: Any) -> dict[str, Any]:
    """Tell of a call what may go out: its name, the session, and the number of sessions."""
    found: dict[str, Any] = {"db.operation.name": kind}
    session_id = asked if kind in _OF_SESSION else getattr(asked, "session_id", None)
    if isinstance(session_id, str):
        found[CONVERSATION] = session_id
    if isinstance(asked, (list, tuple)) and not hasattr(asked, "_fields") and len(asked) > 1:
        found["db.operation.batch.size"] = len(asked)
    return found


def _note_answer(span: Span, given: Any) -> None:
    span.set_attribute("convstore.outcome", OK)
    receipt = given.receipt if isinstance(given, Begun) else given
    fallback = getattr(receipt, "fallback", None)
    if fallback:
        span.set_attribute("convstore.fallback", fallback)


def _note_failure(span: Span, error: BaseException) -> None:
    """Tell of an error its kind, and not its text."""
    outcome = outcome_of(error)
    span.set_attribute("convstore.outcome", outcome)
    if is_failure(error):
        span.set_attribute("error.type", outcome)
        span.set_status(Status(StatusCode.ERROR))
