"""schemathesis against an app: every request that its document allows, and many that it does not, with all checks on.

``make fuzz CASES=2000``: in process and against gunicorn, in memory and on a real Valkey, with an owner and without, and
with an app that lets in nobody whom its own header does not name. ``tests/http/test_openapi.py`` does less of the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import schemathesis
from flask import Flask, abort, request
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import EnsureResourceAvailability, UseAfterFree

from flask_convstore import ConversationStore, Turn

from .processes import wait_for
from .servers import free_port, running

ROOT = Path(__file__).parent.parent
DOCUMENT = "/sessions/openapi.json"
EXAMPLES = 20
"""Examples of each operation and phase in a round. A round makes about a thousand requests."""


LOGIN = "Authorization"
"""The header by which an app with a login of its own knows its users: ``Bearer <name>``."""


def create_app(url: str | None = None, *, has_owners: bool = True, has_login: bool = False, **config: Any) -> Flask:
    """An app that trusts the owner in a header, if it has owners. It replies to texts, and fails at some."""
    app = Flask("fuzz", instance_path=os.environ.get("INSTANCE"))
    app.config.update(CONVSTORE_URL=url, CONVSTORE_CLIENT_TTL=True, CONVSTORE_FALLBACK="none", **config)
    app.config["CONVSTORE_MAX_METADATA_DEPTH"] = 90  # the schema says less than 8 in words only
    convstore = ConversationStore(app)
    if has_login:
        convstore.blueprint.before_request(lambda: None if _user() else abort(401))
        convstore.owner_loader(_user)
    elif has_owners:
        convstore.owner_loader(lambda: request.headers.get("X-Owner"))
    app.register_blueprint(convstore.blueprint)

    @convstore.reply(last=4)
    def reply(turn: Turn) -> str | None:
        content = turn.message["content"]
        if content == "fail":
            raise ValueError("told to")
        return f"re: {content}" if isinstance(content, str) else None

    return app


def create_app_of_nobody() -> Flask:
    return create_app(has_owners=False)


def create_app_with_login() -> Flask:
    return create_app(has_login=True)


def _user() -> str | None:
    kind, _, name = request.headers.get(LOGIN, "").partition(" ")
    return name if kind == "Bearer" and name else None


def _lines() -> st.SearchStrategy[bytes]:
    """Lines that an export may give."""
    message = st.fixed_dictionaries(
        {
            "created_at_ms": st.integers(0, 2**41),
            "body": st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}),
        }
    )
    name = st.text(min_size=1).filter(lambda name: name != "history")
    session = st.fixed_dictionaries(
        {
            "session_id": st.uuids().map(str),
            "shape": st.sampled_from(["full", "list"]),
            "data": st.dictionaries(name, st.integers(-9, 9), max_size=2),
            "messages": st.lists(message, max_size=3),
        }
    )
    lines = st.lists(session.map(lambda shown: json.dumps(shown).encode()), max_size=3)
    return lines.map(b"\n".join)


schemathesis.openapi.media_type("application/x-ndjson", _lines())


_SHOWN = 2000
"""Characters of a failure that are shown, since a case may be long."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """schemathesis sends no examples, which are texts, where it was told how to make bytes."""
    for operations in raw_schema["paths"].values():
        for media in operations.get("post", {}).get("requestBody", {}).get("content", {}).values():
            if isinstance(media["example"], str):
                del media["example"]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A key that came before with another request is refused (422), which no schema can say: each request has its own.

    A text that is none of our ETags is no state of a session (412): any state does.
    """
    if not case.meta or not case.meta.generation.mode.is_positive:
        return
    if not re.fullmatch(r'"\d+-\d+"', case.headers.get("If-Match", '"0-0"')):
        case.headers["If-Match"] = "*"
    key = case.headers.get("Idempotency-Key")
    if key:
        case.headers["Idempotency-Key"] = str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"{key} {case.path_parameters} {case.body!r}")
        )


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """True if a failure is one of ours."""
    if isinstance(failure, UseAfterFree):
        return "/messages/" not in failure.free  # a redacted message keeps its place
    if isinstance(failure, EnsureResourceAvailability):
        return bool(case.path_parameters)  # an id in a body may be of an older session, which this check does not see
    if isinstance(failure, AcceptedNegativeData):
        # Such a float is accepted; no schema can tell it from an integer over 64 bits, which is refused.
        return not _has_large_float(case.body)
    return True


def _has_large_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_large_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_large_float, value))
    return isinstance(value, float) and not -(2**63) <= value < 2**64


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        answers: The number of answers of each operation and status.
        failures: Sentences, each once.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, None] = field(default_factory=dict)
    seconds: float = 0

    @property
    def cases(self) -> int:
        return sum(self.answers.values())


def fuzz(
    target: Flask | str,
    *,
    examples: int,
    seed: int,
    owner: str | None,
    has_login: bool = False,
    outcome: Outcome | None = None,
) -> Outcome:
    """All of schemathesis's phases and checks against an app in this process, or a URL."""
    outcome = outcome or Outcome()
    began = time.monotonic()
    headers = {}
    if owner:
        headers = {LOGIN: f"Bearer {owner}"} if has_login else {"X-Owner": owner}
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": headers,
            "continue-on-failure": True,
            "cache": {"enabled": False},
            "generation": {"max-examples": examples, "database": "none"},
            # Most ways begin with a session that is not there: more of them, so that some lead far.
            "phases": {"stateful": {"generation": {"max-examples": 5 * examples, "mode": "positive"}, "max-steps": 8}},
            "checks": {
                # No schema can say what state a session is in (412).
                "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 412]},
                # A limit such as `maxProperties` is answered by its own status.
                "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 406, 409, 413, 415, 422]},
            },
        }
    )
    if isinstance(target, Flask):
        schema = schemathesis.openapi.from_wsgi(DOCUMENT, target, config=config, headers=headers)
    else:
        schema = schemathesis.openapi.from_url(target + DOCUMENT, config=config, headers=headers)
    for event in from_schema(schema.exclude(path_regex="/events$")).execute():  # such an answer never ends
        _take(event, outcome)
    outcome.seconds += time.monotonic() - began
    return outcome


def _take(event: Any, outcome: Outcome) -> None:
    if isinstance(event, events.NonFatalError):
        outcome.failures[f"{event.label}: {event.value!r}"] = None
    elif isinstance(event, events.FatalError):
        outcome.failures[repr(event.exception)] = None
    elif isinstance(event, (events.ScenarioFinished, events.FuzzScenarioFinished)):
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            case = recorder.cases[case_id].value
            status = interaction.response.status_code if interaction.response else 0
            outcome.answers[case.operation.label, status] += 1
        for checks in recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    text = f"{check.name}: {failure.operation}: {failure.title}: {failure.message}"
                    outcome.failures.setdefault(f"{text}\n    {check.failure_info.code_sample}\n", None)


@contextlib.contextmanager
def _gunicorn(url: str, factory: str) -> Iterator[str]:
    """The URL of an app that gunicorn serves."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--threads", "4", "--log-level", "critical"]
    # What is longer than 4,094 bytes gunicorn refuses by itself (414), not the app.
    command += ["--limit-request-line", "0", "--limit-request-field_size", "0"]
    command += ["--bind", f"127.0.0.1:{port}", f"tests.fuzz:{factory}()"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "CONVSTORE_URL": url})
    try:
        wait_for(lambda: process.poll() is not None or _listens(port), "the app does not come up")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class World(NamedTuple):
    """A name, the app or where it is, whose the requests are, and whether the app has a login of its own."""

    name: str
    target: Flask | str
    owner: str | None
    has_login: bool = False


def _worlds() -> Iterator[World]:
    yield World("memory, an owner", create_app("memory://"), "ada")
    yield World("memory, nobody", create_app("memory://", has_owners=False), None)
    yield World("memory, a login", create_app("memory://", has_login=True), "ada", has_login=True)
    with running("valkey") as server:
        yield World("Valkey, an owner", create_app(server.url), "ada")
        yield World("Valkey, nobody", create_app(server.url, has_owners=False), None)
        yield World("Valkey, a login", create_app(server.url, has_login=True), "ada", has_login=True)
        with _gunicorn(server.url, "create_app") as url:
            yield World("gunicorn and Valkey, an owner", url, "ada")
        with _gunicorn(server.url, "create_app_of_nobody") as url:
            yield World("gunicorn and Valkey, nobody", url, None)
        with _gunicorn(server.url, "create_app_with_login") as url:
            yield World("gunicorn and Valkey, a login", url, "ada", has_login=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="requests in each world, at least")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    for name, target, owner, has_login in _worlds():
        outcome, seed = Outcome(), options.seed
        while outcome.cases < options.cases:
            # Each round has its own owner: what was started by a key and deleted is not started again by this key.
            whose = owner and f"{owner} {seed} {name}"
            fuzz(target, examples=EXAMPLES, seed=seed, owner=whose, has_login=has_login, outcome=outcome)
            seed += 1
        failed += len(outcome.failures)
        statuses = Counter[int]()
        for (_, status), count in outcome.answers.items():
            statuses[status] += count
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        seeds = f"seeds {options.seed} to {seed - 1}"
        print(f"{name}: {outcome.cases} cases, {seeds}, {outcome.seconds:.0f} s ({shown})", flush=True)
        for failure in outcome.failures:
            print(f"  {failure[:_SHOWN]}")
    print(f"{failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
