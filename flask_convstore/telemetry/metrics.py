"""Metrics of one process for Prometheus, and the page of all processes. Needs prometheus-client, and is imported late.

docs/monitoring.md has the table of all metrics, which a test compares. No label has an id, an owner or a path: ``store`` is
the name of the store, and all others are words of the code.

Where ``PROMETHEUS_MULTIPROC_DIR`` names a folder, prometheus-client keeps the figures of each process in files there, and
the page adds them up. Facts of the whole host, such as the journal's, are read when the page is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from .updates import UPDATES

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus-client: the folder of several processes."""

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LONG_SECONDS = (0.01, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_MESSAGE_BYTES = tuple(2**power for power in range(6, 21, 2))
_SESSION_BYTES = tuple(2**power for power in range(10, 27, 2))

OPERATIONS = Counter(
    "convstore_operations", "Operations by kind and outcome. A batch counts each.", ("store", "kind", "outcome")
)
SECONDS = Histogram(
    "convstore_operation_duration_seconds",
    "Time of an operation, retries and fallback included. A batch counts once.",
    ("store", "kind"),
    buckets=_SECONDS,
)
TRIPS = Counter("convstore_round_trips", "Requests to the server for operations of this kind.", ("store", "kind"))
TURNS = Gauge(
    "convstore_turns_in_progress", "Turns with a message, begun and not ended.", ("store",), multiprocess_mode="livesum"
)
WAITING = Gauge("convstore_turns_waiting", "Turns that stand in line.", ("store",), multiprocess_mode="livesum")
WAITED = Histogram("convstore_turn_wait_seconds", "Time that a turn stood in line.", ("store",), buckets=_LONG_SECONDS)
HANDLED = Histogram(
    "convstore_turn_duration_seconds",
    "Time from the stored message to the stored end of its turn: that of the handler.",
    ("store", "outcome"),
    buckets=_LONG_SECONDS,
)
LOST = Counter("convstore_leases_lost", "Turns that were taken over, or stopped elsewhere.", ("store",))
CIRCUIT = Gauge(
    "convstore_circuit_open", "1 while a worker does not ask the server.", ("store",), multiprocess_mode="livemax"
)
FALLBACK = Counter(
    "convstore_fallback_answers", "Answers of the fallback in the server's place.", ("store", "kind", "fallback")
)
MESSAGE_BYTES = Histogram(
    "convstore_message_bytes", "Size of a message that was written.", ("store",), buckets=_MESSAGE_BYTES
)
SESSION_BYTES = Histogram(
    "convstore_session_bytes", "Size of a session that was read.", ("store",), buckets=_SESSION_BYTES
)
LARGE = Counter("convstore_large_sessions", "Sessions that a worker has seen above 1 MiB, each once.", ("store",))
STARTED = Counter("convstore_sessions_started", "Sessions that were created.", ("store",))
DELETED = Counter("convstore_sessions_deleted", "Sessions that were deleted. Not those that expired.", ("store",))
CHANGES_LOST = Counter("convstore_changes_lost", "Times that changes were lost or set aside.", ("store",))
STREAMS = Gauge(
    "convstore_streams_open", "Streamed replies that are being made.", ("store",), multiprocess_mode="livesum"
)
FOLLOWERS = Gauge(
    "convstore_followers", "Readers of streams, sessions and lists.", ("store",), multiprocess_mode="livesum"
)
STOPS = Counter("convstore_stops", "Streamed replies that somebody stopped, or another turn superseded.", ("store",))

OF_PROCESSES = (
    *(OPERATIONS, SECONDS, TRIPS, TURNS, WAITING, WAITED, HANDLED, LOST, CIRCUIT, FALLBACK, MESSAGE_BYTES),
    *(SESSION_BYTES, LARGE, STARTED, DELETED, CHANGES_LOST, STREAMS, FOLLOWERS, STOPS),
)
"""Metrics of each process."""

OF_HOST = {
    "convstore_up": "1 if the server answers a ping.",
    "convstore_degraded": "1 while something other than the server serves, or writes wait in the journal.",
    "convstore_journal_commands": "Writes that wait in the journal.",
    "convstore_journal_bytes": "Size of the journal.",
    "convstore_journal_oldest_age_seconds": "Age of the oldest write in the journal. 0: there is none.",
    "convstore_journal_set_aside_commands": "Writes that the server refused for good, kept for an operator.",
    "convstore_journal_dropped_commands": "Writes whose session had ended before they could be replayed.",
    "convstore_sessions": "Sessions that are there. Many are estimated.",
    "convstore_sessions_expired": "Sessions that have ended by themselves since the counting began. Many are estimated.",
    "convstore_stored_messages": "Messages of all sessions. Many are estimated.",
    "convstore_stored_bytes": "Messages and data of all sessions, as JSON text. Many are estimated.",
}
"""Names and meanings of the facts that are read when the page is asked for."""


class HostFacts(NamedTuple):
    """The facts of a store that all workers of a host share.

    Attributes:
        store: Name of the store.
        values: Values by the names in ``OF_HOST``. One that cannot be read is left out.
    """

    store: str
    values: dict[str, float]


class _Page:
    """All metrics of ours, as a registry."""

    def __init__(self, facts: Iterable[HostFacts]) -> None:
        self._facts = list(facts)

    def collect(self) -> Iterator[Metric]:
        yield from self._of_processes()
        for name, meaning in OF_HOST.items():
            family = GaugeMetricFamily(name, meaning, labels=("store",))
            for store, values in self._facts:
                if name in values:
                    family.add_metric((store,), values[name])
            if family.samples:
                yield family

    def _of_processes(self) -> Iterator[Metric]:
        if MULTIPROCESS not in os.environ:
            own: list[Metric] = []
            UPDATES.do(lambda: own.extend(found for metric in OF_PROCESSES for found in metric.collect()))
            yield from own
            return
        files = MultiProcessCollector(CollectorRegistry())  # type: ignore[no-untyped-call]
        found: Iterable[Metric] = files.collect()  # type: ignore[no-untyped-call]
        yield from (metric for metric in found if metric.name.startswith("convstore_"))


def page(facts: Iterable[HostFacts]) -> bytes:
    """Make the page: the metrics of all processes, and the *facts* of each store."""
    return generate_latest(_Page(facts))
