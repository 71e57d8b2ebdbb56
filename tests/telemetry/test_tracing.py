"""Traces: a span of each operation and of each turn, with the names of the conventions, and nothing that is said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_convstore import StoreUnavailable, TurnLost
from flask_convstore.telemetry import tracing

from ..processes import wait_for
from ..servers import Server, free_port
from ..service import Service, in_memory


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of one test. A process has one provider, so that it is given in another way than apps do it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [span for span in spans.get_finished_spans() if span.name == name]
    return found


def ids(span: ReadableSpan) -> tuple[int, int | None, list[int]]:
    """The ids of a span, of its parent, and of those that it is linked to."""
    assert span.context
    return span.context.span_id, span.parent and span.parent.span_id, [link.context.span_id for link in span.links]


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def traced(url: str, spans: InMemorySpanExporter) -> Service:
    return Service(url, TRACING=True, FALLBACK="none")


def test_a_turn_is_a_span_around_its_handler(traced: Service, spans: InMemorySpanExporter) -> None:
    @traced.convstore.reply
    def reply(turn: Any) -> str:
        with trace.get_tracer("app").start_as_current_span("the model"):
            return "yes"

    session_id = traced.start()
    spans.clear()
    with trace.get_tracer("app").start_as_current_span("the request"):
        traced.say(session_id)
    request, _, _ = ids(named(spans, "the request"))
    begin, begin_parent, _ = ids(named(spans, "begin_turn"))
    turn, turn_parent, turn_links = ids(named(spans, "turn"))
    _, commit_parent, commit_links = ids(named(spans, "commit_turn"))
    assert begin_parent == turn_parent == request
    assert ids(named(spans, "the model"))[1] == commit_parent == turn
    assert turn_links == commit_links == [begin]
    assert facts(named(spans, "turn")) == {
        "convstore.store": "convstore",
        "gen_ai.conversation.id": session_id,
        "convstore.outcome": "replied",
    }


def test_the_chunks_of_a_streamed_reply_are_made_inside(traced: Service, spans: InMemorySpanExporter) -> None:
    """They are made in a thread of its own."""

    @traced.convstore.reply
    def reply(turn: Any) -> Iterator[str]:
        with trace.get_tracer("app").start_as_current_span("the model"):
            yield "yes"

    session_id = traced.start()
    events = {"Accept": "text/event-stream"}
    answer = traced.client.post(f"/sessions/{session_id}/messages", json={"content": "hi"}, headers=events)
    assert "event: done" in answer.text
    wait_for(lambda: "turn" in [span.name for span in spans.get_finished_spans()], "the turn does not end")
    turn, _, _ = ids(named(spans, "turn"))
    assert ids(named(spans, "the model"))[1] == ids(named(spans, "commit_turn"))[1] == turn


def test_an_awaited_turn_is_a_span_too(
    traced: Service, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of its steps has a thread of its own, with a context of its own."""
    session_id, store = traced.start(), traced.convstore.on(traced.app)

    async def talk() -> None:
        async with store.aio.turn(session_id, "hi") as turn:
            with trace.get_tracer("app").start_as_current_span("the model"):
                await asyncio.sleep(0)
            await turn.reply("yes")
        with trace.get_tracer("app").start_as_current_span("afterwards"):
            pass

    asyncio.run(talk())
    turn, _, _ = ids(named(spans, "turn"))
    assert ids(named(spans, "the model"))[1] == ids(named(spans, "commit_turn"))[1] == turn
    assert ids(named(spans, "afterwards"))[1] is None
    assert not caplog.records, "a context was left that was not entered"


def test_a_lost_turn_ends_its_span(traced: Service, spans: InMemorySpanExporter) -> None:
    session_id = traced.start()
    with traced.app.app_context(), pytest.raises(TurnLost), traced.convstore.turn(session_id, "hi") as lost:
        with traced.convstore.turn(session_id, "hi", policy="supersede"):
            pass
        lost.reply("late")
    outcomes = [facts(span)["convstore.outcome"] for span in spans.get_finished_spans() if span.name == "turn"]
    assert sorted(outcomes) == ["turn_lost", "unanswered"]


@pytest.mark.server
def test_an_operation_names_the_server(valkey: Server, spans: InMemorySpanExporter) -> None:
    service = Service(valkey.url, TRACING=True)
    session_id = service.start()
    service.get(session_id)  # the server learns the script
    spans.clear()
    service.get(session_id)
    found = named(spans, "load")
    assert found.kind is trace.SpanKind.CLIENT
    assert facts(found) == {
        "db.system.name": "redis",
        "db.operation.name": "load",
        "db.namespace": "0",
        "server.address": valkey.host,
        "server.port": valkey.port,
        "gen_ai.conversation.id": session_id,
        "convstore.store": "convstore",
        "convstore.outcome": "ok",
        "convstore.round_trips": 1,
    }


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("memory://", {"db.system.name": "memory"}),
        ("valkeys://u:secret@host/3", {"db.namespace": "3", "server.address": "host", "server.port": 6379}),
        ("unix://u:secret@/run/redis.sock?db=1", {"server.address": "/run/redis.sock"}),
        ("redis+cluster://u:secret@h1:7000,h2:7001", {}),
        ("", {}),
    ],
)
def test_a_url_as_attributes(url: str, found: dict[str, Any]) -> None:
    assert tracing.target_of(url) == {"db.system.name": "redis", **found}


def test_a_store_that_is_away_is_an_error_and_a_refusal_is_none(spans: InMemorySpanExporter) -> None:
    service = Service(f"redis://127.0.0.1:{free_port()}/0", TRACING=True, RETRIES=0, FALLBACK="none")
    with service.app.app_context(), pytest.raises(StoreUnavailable):
        service.convstore.get_session("s")
    away = named(spans, "load")
    assert facts(away)["error.type"] == "store_unavailable"
    assert away.status.status_code is trace.StatusCode.ERROR
    assert not away.status.description
    assert not away.events
    here = Service("memory://", TRACING=True)
    here.client.delete("/sessions/none")
    refused = named(spans, "delete")
    assert facts(refused)["convstore.outcome"] == "session_not_found"
    assert "error.type" not in facts(refused)
    assert refused.status.status_code is trace.StatusCode.UNSET


@in_memory
def test_nothing_that_is_said_goes_out(traced: Service, spans: InMemorySpanExporter) -> None:
    traced.convstore.owner_loader(lambda: "very-secret-owner")
    traced.convstore.reply(lambda turn: "very-secret-reply")
    said = {"message": {"content": "very-secret-text"}, "data": {"very-secret-field": "very-secret-value"}}
    session_id = traced.start(**said, alias="very-secret-alias")
    traced.say(session_id, "very-secret-text", metadata={"very-secret": 1})
    traced.client.get("/sessions")
    traced.client.get(f"/sessions/{session_id}/messages")
    traced.client.patch(f"/sessions/{session_id}", json={"title": "very-secret-title"})
    with traced.app.app_context():
        traced.convstore.resolve("very-secret-alias", owner="very-secret-owner")
        traced.convstore.append_many({session_id: ["very-secret-text"], "other": ["very-secret-text"]})
        traced.convstore.share(session_id, "very-secret-friend", owner="very-secret-owner")
        traced.convstore.delete_owner(owner="very-secret-owner")
    found = spans.get_finished_spans()
    assert len({span.name for span in found}) > 8
    assert "very-secret" not in "".join(span.to_json() for span in found)
    assert facts(named(spans, "apply_each"))["db.operation.batch.size"] == 2


@in_memory
def test_without_a_provider_nothing_is_recorded(url: str) -> None:
    service = Service(url, TRACING=True)
    service.convstore.reply(lambda turn: "yes")
    service.say(service.start())
    assert not trace.get_current_span().is_recording()
