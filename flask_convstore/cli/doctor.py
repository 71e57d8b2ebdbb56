"""``doctor``: looks at everything that a store depends on, and names the cure of each fault."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from ..app.checkup import of_app, of_journal
from ..app.operator import Operator
from ..errors import StoreError
from ..operations import diagnosis
from ..operations.diagnosis import Finding
from ..operations.trial import appends_ms
from ..stores.redis.cluster import LazyCluster
from ..stores.redis.survey import survey
from ..urls import masked
from .frame import Output, command

_STATUS = {"ok": 0, "warning": 1, "problem": 2}
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@command("doctor")
def doctor_command(operator: Operator, output: Output) -> None:
    """Look at server, settings and journal, and name the cure of each fault.

    Exit status: 0 all is well, 1 there are warnings, 2 there are problems.
    """
    findings = []
    for finding in _findings(operator):
        findings.append(finding)
        colour = click.style(f"{finding.state:<8}", fg=_COLOURS[finding.state])
        said = f"{finding.text} {finding.cure}".strip()
        output.tell(finding._asdict(), f"{colour} {finding.about}: {said}")
    click.get_current_context().exit(_STATUS[diagnosis.worst(findings)])


def _findings(operator: Operator) -> Iterator[Finding]:
    yield from _of_servers(operator)
    yield of_journal(operator.state)
    if operator.has_app:
        yield from of_app(operator.state)


def _of_servers(operator: Operator) -> Iterator[Finding]:
    client, settings = operator.state.client, operator.settings
    if client is None:
        text = "The store is the memory of one process: it is lost with the process, and no other one sees it."
        yield Finding("connection", "warning", text, "Set CONVSTORE_URL to a server for everything but tests.")
        return
    try:
        servers = survey(client, *settings.prefixes)
    except StoreError as error:
        yield Finding("connection", "problem", f"The store {operator.state.server} cannot be used: {error}")
        return
    yield Finding("connection", "ok", f"{masked(settings.url)} answers.")
    is_several = isinstance(client, LazyCluster)
    for facts in servers:
        for finding in diagnosis.of_server(facts, settings, _workers()):
            about = f"{finding.about} of {facts.name}" if is_several else finding.about
            yield finding._replace(about=about)
    yield _appends(operator)


def _appends(operator: Operator) -> Finding:
    try:
        return diagnosis.latency("append", appends_ms(operator.directly(), operator.forget_ended))
    except StoreError as error:
        return Finding("append", "problem", f"A message cannot be stored: {error}")


def _workers() -> int:
    """Read the number of worker processes, as gunicorn reads it."""
    text = os.environ.get("WEB_CONCURRENCY", "")
    return int(text) if text.isdecimal() and int(text) else 1
