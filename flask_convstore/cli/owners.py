"""``owner``: all that is kept of one owner."""

from __future__ import annotations

import click

from ..app.operator import Operator
from ..domain import json_text
from .frame import Output, command, confirmed, written, yes_option


@click.group("owner")
def owner_command() -> None:
    """Export or delete all that is kept of one owner."""


@command("export")
@click.argument("owner", metavar="OWNER")
@click.option("--output", "-o", "target", default="-", metavar="FILE", help="A file, in place of stdout.")
def export(operator: Operator, output: Output, *, owner: str, target: str) -> None:
    """Export all sessions of an owner as JSON Lines, which an app's import takes too."""
    count = 0
    with written(target) as file:
        for line in operator.export_owner(owner=owner):
            file.write(json_text.dump(line) + b"\n")
            count += 1
            if line.get("corrupt"):
                output.fail(f"{line['session_id']} is damaged, and was not exported.")
    output.note(f"{count} sessions.")


@command("delete")
@click.argument("owner", metavar="OWNER")
@yes_option
def delete(operator: Operator, output: Output, *, owner: str, yes: bool) -> None:
    """Delete all that is kept of an owner: sessions, chats, values of mappings, aliases, shares, and journalled sessions."""
    confirmed(f"Delete all that is kept of {owner} for good?", yes=yes)
    gone = operator.delete_owner(owner=owner)
    facts = {"owner": owner, "sessions": int(gone), "aliases": gone.aliases, "shares": gone.shares}
    output.tell(facts, f"{int(gone)} sessions, {gone.aliases} aliases and {gone.shares} shares of {owner} are deleted.")


owner_command.add_command(export)
owner_command.add_command(delete)
