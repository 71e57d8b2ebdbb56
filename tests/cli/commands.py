"""Commands as tests call them: in this process, with the output of people or of programs."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from flask import Flask

from flask_convstore.cli.group import convstore


def run(url: str, *words: str, given: str | bytes | None = None, status: int = 0) -> Result:
    """Run a command without an app. It must end with that exit status."""
    done = CliRunner().invoke(convstore, ["--url", url, *words], input=given)
    return checked(done, status)


def run_in(app: Flask, *words: str, given: str | None = None, status: int = 0) -> Result:
    """Run a command of ``flask`` in an app. It must end with that exit status."""
    done = app.test_cli_runner().invoke(convstore, list(words), input=given)
    return checked(done, status)


def checked(done: Result, status: int) -> Result:
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == status, done.output
    return done


def lines(done: Result) -> list[dict[str, Any]]:
    """The lines of JSON on stdout."""
    return [json.loads(line) for line in done.stdout.splitlines()]
