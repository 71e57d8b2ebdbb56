"""``make mutate``: what is changed in scripts, what docs/mutation.md explains, and its table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ..mutation.findings import PAGE, Mutant, row, unexplained, with_row
from ..mutation.lua_room import changes
from ..mutation.python_rooms import meanings
from ..mutation.rooms import LUA, ROOMS, sampled

ROOT = Path(__file__).parents[2]

SCRIPT = """\
--[[ the header: a < b and c ]]
local now = redis.call("TIME") -- not true
if now[1] <= 5 and not gone then
    redis.call("HSET", key, "a",
        "<= and true")
    return {"ok", 0}
end
"""


def test_a_script_is_changed_in_its_code_only(tmp_path: Path) -> None:
    (tmp_path / "x.lua").write_text(SCRIPT)
    made = list(changes(tmp_path / "x.lua"))
    assert [(before, after) for _, before, after in made] == [
        ("if now[1] <= 5 and not gone then", "if now[1] < 5 and not gone then"),
        ("if now[1] <= 5 and not gone then", "if now[1] >= 5 and not gone then"),
        ("if now[1] <= 5 and not gone then", "if now[1] <= 5 or not gone then"),
        ("if now[1] <= 5 and not gone then", "if now[1] <= 5 and gone then"),
        ('return {"ok", 0}', 'return {"ok", 1}'),
        ('redis.call("HSET", key, "a", "<= and true")', ""),
        ('return {"ok", 0}', ""),
    ]
    assert all(text != SCRIPT and text.startswith("--[[ the header: a < b and c ]]") for text, _, _ in made)


def test_every_script_can_be_changed() -> None:
    for file in (ROOT / "flask_convstore/stores/redis/lua").glob("*.lua"):
        text = file.read_text("utf-8")
        assert all(changed != text for changed, _, _ in changes(file))


def test_every_room_and_its_tests_are_there() -> None:
    for room in ROOMS.values():
        assert room is LUA or (ROOT / room.path).exists()
        assert all((ROOT / file).exists() for file in room.files), room


def test_the_wording_of_a_message_is_no_change() -> None:
    code = 'def {}():\n    raise Gone("{}", "{}")\n'
    told = meanings("".join(code.format(*given) for given in (("a", "it is gone", "x"), ("b", "XXit is goneXX", "x"))))
    assert told["a"] == told["b"]
    told = meanings("".join(code.format(*given) for given in (("a", "it is gone", "x"), ("b", "it is gone", "X"))))
    assert told["a"] != told["b"]
    assert ast.parse(code.format("a", "b", "c"))


def test_a_larger_sample_has_the_smaller_one_in_it() -> None:
    there = range(100)
    assert sampled(there, 30, 5)[:10] == sampled(there, 10, 5)
    assert sorted(sampled(there, 0, 5)) == list(there)
    assert sampled(there, 10, 6) != sampled(there, 10, 5)


PAGE_TEXT = """\
before
<!-- made of make mutate -->
<!-- end -->
- `a.b`: `x < 1` → `x <= 1`
- `a.b`: `y()` → ``
- `a.b`: `text` → anything
"""


@pytest.mark.parametrize(
    ("mutant", "missed"),
    [
        (Mutant("a.b", "x < 1", "x <= 1", "survived"), False),
        (Mutant("a.b", "x < 1", "x > 1", "survived"), True),
        (Mutant("a.b", "x < 1", "x > 1", "killed"), False),
        (Mutant("a.c", "x < 1", "x <= 1", "survived"), True),
        (Mutant("a.b", "y()", "", "survived"), False),
        (Mutant("a.b", "y()", "z()", "survived"), True),
        (Mutant("a.b", "text", "None", "survived"), False),
    ],
)
def test_a_survivor_is_explained_by_its_place_and_both_lines(mutant: Mutant, missed: bool) -> None:
    assert unexplained([mutant], PAGE_TEXT) == ([mutant] if missed else [])
    assert unexplained([Mutant("d", "`x`", "", "survived")], f"{PAGE_TEXT}{Mutant('d', '`x`', '', '')}\n") == []


def test_the_table_keeps_the_rows_of_other_rooms() -> None:
    mutants = [Mutant("a.b", "x < 1", after, fate) for after, fate in (("x <= 1", "survived"), ("x > 1", "killed"))]
    page = PAGE_TEXT
    for room in ("b", "a", "b"):
        page = with_row(page, row(room, mutants, 9, "make mutate"))
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in table] == ["| room", "| ---", "| a", "| b"]
    assert table[2].startswith("| a | 9 | 2 | 1 | 0 | 1 | `make mutate`, ")
    assert page.startswith("before\n")
    assert page.endswith("→ anything\n")


def test_the_page_says_nothing_twice() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("- `")]
    assert len(lines) == len(set(lines))
