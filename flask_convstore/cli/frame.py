"""The frame of every command: its store, ``--json``, and errors in plain words."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from ..app.operator import Operator
from ..domain import json_text
from ..errors import ConvstoreError
from ..operations.access import Access
from ..stores.private_folder import private_opener
from .operator import operator_of

_F = TypeVar("_F", bound=Callable[..., Any])


class Output:
    """The output of a command: text for people, or one JSON object a line for programs.

    Attributes:
        is_json: Programs read it.
        has_failed: The command ends with the exit status 1.
    """

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        self.has_failed = False

    def tell(self, values: Mapping[str, Any], text: str) -> None:
        """Print *values* as a line of JSON, or *text* for people."""
        click.echo(json_text.dump(values).decode() if self.is_json else text)

    def note(self, text: str) -> None:
        """Tell people something beside the output, on stderr."""
        click.echo(text, err=True)

    def fail(self, text: str) -> None:
        """Tell what went wrong with a part of the work. The rest goes on, and the exit status is 1."""
        self.has_failed = True
        self.note(text)


class Progress:
    """A count on stderr, for a person at a terminal. Elsewhere nothing is shown."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._of = "" if total is None else f" of {total}"
        self._is_shown = sys.stderr.isatty()

    def show(self, count: int) -> None:
        """Show the count in the place of the last one."""
        if self._is_shown:
            click.echo(f"\r{count}{self._of} {self._what}", err=True, nl=False)

    def end(self) -> None:
        """Let the next output begin on a line of its own."""
        if self._is_shown:
            click.echo(err=True)


@contextlib.contextmanager
def written(target: str) -> Iterator[IO[bytes]]:
    """Open a file for conversations, which only this user can read. It appears when all is written. "-" is stdout."""
    if target == "-":
        with click.open_file(target, "wb") as stdout:
            yield stdout
        return
    path = Path(target)
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with open(part, "wb", opener=private_opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise PlainError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


class PlainError(click.ClickException):
    """An error of ours, in plain words and without a traceback. The exit status is 1."""


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function from an ``Operator``, an ``Output`` and its own parameters."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @click.command(name, **attributes)
        @click.option("--json", "is_json", is_flag=True, help="Print JSON, one object a line.")
        @click.pass_context
        @functools.wraps(function)
        def run(ctx: click.Context, /, *, is_json: bool, **given: Any) -> None:
            output = Output(is_json=is_json)
            try:
                function(operator_of(ctx), output, **given)
            except ConvstoreError as error:
                raise PlainError(str(error)) from error
            if output.has_failed:
                ctx.exit(1)

        made: click.Command = run
        return made

    return decorate


def confirmed(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed, unless --yes was given. "No" ends the command with the exit status 1."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def yes_option(function: _F) -> _F:
    """Give a command the option --yes."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)


def place_option(function: _F) -> _F:
    """Give a command the option --place."""
    text = "Part of the store: sessions, chats, or mapping:NAME."
    return click.option("--place", metavar="PLACE", default="sessions", show_default=True, help=text)(function)


def access_in(operator: Operator, place: str) -> Access:
    """Give direct access to a place that a person has named."""
    try:
        return operator.directly(place)
    except LookupError as error:
        raise click.BadParameter(str(error.args[0]), param_hint="--place") from error
