"""Fates of mutants, the survivors that docs/mutation.md explains, and its table of figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "mutation.md"
_BEGIN, _END = "<!-- made of make mutate -->", "<!-- end -->"
_HEAD = "| room | mutants | tried | killed | timed out | survived | made by |"


@dataclass(frozen=True)
class Mutant:
    """A change to one place, and the verdict of the tests.

    Attributes:
        place: The function, as ``windows.window``, or the file of a script, as ``_fit.lua``.
        before, after: The lines that differ, without their indent, joined by spaces.
        fate: ``killed``, ``timed out``, ``survived``.
    """

    place: str
    before: str
    after: str
    fate: str

    def __str__(self) -> str:
        """Its line in docs/mutation.md, without backticks, which would end the quotation."""
        before, after = (line.replace("`", "'") for line in (self.before, self.after))
        return f"- `{self.place}`: `{before}` → `{after}`"


def unexplained(mutants: Iterable[Mutant], page: str) -> list[Mutant]:
    """The survivors that *page* says nothing about."""
    told = set(page.splitlines())
    survivors = [mutant for mutant in mutants if mutant.fate == "survived"]
    return [
        mutant for mutant in survivors if not {str(mutant), f"{str(mutant).rpartition(' → ')[0]} → anything"} & told
    ]


def row(room: str, mutants: Sequence[Mutant], total: int, command: str) -> str:
    """A room's line in the table."""
    fates = Counter(mutant.fate for mutant in mutants)
    cells = (room, total, len(mutants), fates["killed"], fates["timed out"], fates["survived"])
    return f"| {' | '.join(map(str, cells))} | `{command}`, {date.today()} |"


def with_row(page: str, line: str) -> str:
    """*page*, its table with that line in the place of the room's earlier one."""
    before, _, rest = page.partition(_BEGIN)
    table, _, after = rest.partition(_END)
    rows = {found.split("|")[1].strip(): found for found in table.strip().splitlines()[2:]}
    rows[line.split("|")[1].strip()] = line
    rule = "|" + " --- |" * (_HEAD.count("|") - 1)
    return "\n".join([f"{before}{_BEGIN}", _HEAD, rule, *(rows[room] for room in sorted(rows)), f"{_END}{after}"])
