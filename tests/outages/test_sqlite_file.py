"""A block of the journal's file that an exception cut short is closed when garbage is collected, at any moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.outages.sqlite_file import JournalFile

SCHEMA = "CREATE TABLE about (name TEXT PRIMARY KEY, value); CREATE TABLE things (name TEXT);"


@pytest.fixture(params=["file", "memory"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JournalFile]:
    folder = tmp_path / "journal" if request.param == "file" else None
    made = JournalFile(folder, SCHEMA, 77, 1, "a store", 1_000_000, timeout=5.0)
    yield made
    made.close()


def cut_short(file: JournalFile) -> Any:
    """As if an exception had come between the two lines of ``with``."""
    block: Any = file.writing(math.inf)
    next(block.gen)
    return block.gen


def test_garbage_ends_no_transaction_of_others(file: JournalFile) -> None:
    left = cut_short(file)
    with file.writing() as connection:
        connection.execute("INSERT INTO things VALUES ('a')")
        left.close()
        connection.execute("INSERT INTO things VALUES ('b')")
    with file.reading() as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == [("a",), ("b",)]


def test_what_was_cut_short_is_rolled_back_by_the_next(file: JournalFile) -> None:
    with file.writing():
        pass
    left = cut_short(file)
    assert file._connection
    file._connection.execute("INSERT INTO things VALUES ('a')")
    left.close()
    with file.reading() as connection:
        assert connection.execute("SELECT name FROM things").fetchall() == []


def test_garbage_in_a_child_closes_no_descriptor_of_others(tmp_path: Path) -> None:
    file = JournalFile(tmp_path, SCHEMA, 77, 1, "a store", 1_000_000, timeout=5.0)
    block: Any = file.exclusive("replaying")
    assert next(block.gen)
    file.in_child()
    with (tmp_path / "another").open("w") as another:
        block.gen.close()
        another.write("it is still open")
        another.flush()
