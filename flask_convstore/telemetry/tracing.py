"""Spans of turns, for OpenTelemetry. Needs opentelemetry-api, and is imported late. Without a provider nothing is made.

The names are those of the semantic conventions for databases (1.45) and for generative AI (0.1, in development), as far as
they have one: ``gen_ai.conversation.id`` is the id of the session. Messages, data and owners go into no span, nor does the
text of an error, which may name them.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from ..domain.commands import BeginTurn
from ..urls import as_redis
from .held_turns import HeldTurns

SCOPE = "flask_convstore"
"""Name of the tracer."""

CONVERSATION = "gen_ai.conversation.id"

_FIRST_PORT = 6379


def target_of(url: str) -> dict[str, Any]:
    """Name the server of *url* as attributes of a span. Several hosts, and one that it does not name (""), have none."""
    scheme, _, rest = as_redis(url).partition("://")
    if scheme == "memory":
        return {"db.system.name": "memory"}
    found: dict[str, Any] = {"db.system.name": "redis"}
    if scheme == "unix":
        return {**found, "server.address": rest.rpartition("@")[2].partition("?")[0]}
    if scheme not in ("redis", "rediss"):
        return found
    parts = urlsplit(f"{scheme}://{rest}")
    return {
        **found,
        "db.namespace": parts.path.strip("/") or "0",
        "server.address": parts.hostname or "localhost",
        "server.port": parts.port or _FIRST_PORT,
    }


class _Held:
    """The span of a turn, and the context of the span of its begin."""

    __slots__ = ("begin", "span")

    def __init__(self, span: Span, begin: SpanContext) -> None:
        self.span = span
        self.begin = begin


class TurnSpans:
    """The tracer of one store, and the spans of the turns that this process has begun.

    Args:
        target: Attributes that name the server.

    Attributes:
        attributes: Attributes of every span of an operation.
    """

    def __init__(self, name: str, target: dict[str, Any]) -> None:
        self.attributes = {**target, "convstore.store": name}
        self.tracer = trace.get_tracer(SCOPE)
        self._name = name
        self._held: HeldTurns[_Held] = HeldTurns()

    def begun(self, command: BeginTurn, begin: Span) -> None:
        """Begin the span of a turn, behind the span of the operation that began it."""
        self._end_abandoned()
        before = begin.get_span_context()
        if not before.is_valid:
            return  # there is no provider
        attributes = {CONVERSATION: command.session_id, "convstore.store": self._name}
        span = self.tracer.start_span("turn", kind=SpanKind.INTERNAL, attributes=attributes, links=[Link(before)])
        self._held.add(command.attempt, command.lease_ms / 1000, _Held(span, before))

    def inside(self, attempt: str) -> contextlib.AbstractContextManager[object]:
        """Make the span of a turn current in a block. The app's own spans are inside of it."""
        held = self._held.get(attempt)
        if held is None:
            return contextlib.nullcontext()
        return trace.use_span(held.span, record_exception=False, set_status_on_exception=False)

    def around_end(self, attempt: str) -> dict[str, Any]:
        """Find parent and links for the span of the operation that ends a turn."""
        held = self._held.get(attempt)
        if held is None:
            return {}
        return {"context": trace.set_span_in_context(held.span), "links": [Link(held.begin)]}

    def renewed(self, attempt: str, seconds: float) -> None:
        """Keep the span of a turn for so many *seconds* more."""
        self._held.renew(attempt, seconds)

    def ended(self, attempt: str, outcome: str) -> None:
        """End the span of a turn."""
        held = self._held.pop(attempt)
        if held:
            _end(held.span, outcome)

    def _end_abandoned(self) -> None:
        for held in self._held.take_expired():
            _end(held.span, "abandoned")


def _end(span: Span, outcome: str) -> None:
    span.set_attribute("convstore.outcome", outcome)
    span.end()
