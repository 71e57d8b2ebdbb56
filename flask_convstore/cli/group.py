"""The group of all commands. A command's module is imported when the command is called, or its help is shown."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from ..app.first_look import OURS

_COMMANDS = {
    "bench": "upkeep",
    "doctor": "doctor",
    "export": "transfer",
    "import": "transfer",
    "journal": "journal",
    "ls": "sessions",
    "migrate": "migrate",
    "owner": "owners",
    "repair": "upkeep",
    "rm": "sessions",
    "show": "sessions",
    "stats": "sessions",
    "tail": "sessions",
}
"""Each command with its module of this wing. The function is named as the command, with ``_command`` behind."""

CHOSEN = OURS
"""Key of a ``Chosen`` in the ``meta`` of a context of click."""


class Chosen(NamedTuple):
    """The options of the group: which store the commands work on, and in which folder its journal lies without an app."""

    url: str | None
    prefix: str | None
    name: str | None
    folder: str | None = None


class LateGroup(click.Group):
    """A group that imports a command when somebody asks for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. None: there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__package__}.{_COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found


@click.group("convstore", cls=LateGroup)
@click.option("--url", metavar="URL", help="The server, instead of that of an app: redis://host:6379/0.")
@click.option("--prefix", metavar="TEXT", help="Beginning of the keys. Only where there is no app.")
@click.option("--name", metavar="NAME", help="The name of the store, in an app that has several.")
@click.pass_context
def convstore(ctx: click.Context, url: str | None, prefix: str | None, name: str | None) -> None:
    """Look after the conversations that flask-convstore keeps.

    Within an app (`flask convstore`) the commands work on its store. With --url, and as `python -m flask_convstore`, they
    need no app, and read other settings from the environment, such as CONVSTORE_PREFIX.

    Exit status: 0 done, 1 refused or failed, 2 wrong usage. The command doctor has its own.
    """
    ctx.meta[CHOSEN] = Chosen(url, prefix, name)
