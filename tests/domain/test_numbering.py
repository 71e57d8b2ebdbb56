"""Numbers of messages: any messages are taken out of any history, beside a list that knows each number."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore.domain import numbering
from flask_convstore.domain.numbering import behind, gaps_between, gaps_in, index_of, next_seq, seqs_of, with_gap

SEQS = st.sets(st.integers(3, 25)).map(sorted)


@given(seqs=SEQS, later=st.integers(1, 4))
def test_gaps_tell_the_numbers(seqs: list[int], later: int) -> None:
    following = (seqs[-1] if seqs else 2) + later
    gaps, first = gaps_between(seqs, following), seqs[0] if seqs else following
    assert list(seqs_of(first, len(seqs), gaps)) == seqs
    for newest in range(len(seqs) + 1):
        assert list(seqs_of(first, len(seqs), gaps, newest)) == seqs[len(seqs) - newest :]
    assert next_seq(first, len(seqs), gaps) == following
    assert gaps_in(numbering.text_of(gaps)) == gaps
    for seq in range(1, 30):
        there = seqs.index(seq) if seq in seqs else None
        assert index_of(seq, first, len(seqs), gaps) == there
        assert behind(seq, first, len(seqs), gaps) == sum(one <= seq for one in seqs)


def test_the_numbers_of_the_newest_messages_do_not_list_those_of_all() -> None:
    """A turn has a gap at the end, for its reply, and asks at any length of the history."""
    many = 10**12
    gaps = ((5, 9), (many + 1, many + 1))
    assert seqs_of(1, many - 5, gaps, 3) == range(many - 2, many + 1)
    assert seqs_of(1, many - 5, ((5, 9), (many, many), (many + 2, many + 2)), 2) == [many - 1, many + 1]


@given(gaps=SEQS, more=st.sets(st.integers(3, 25), min_size=1))
def test_gaps_that_touch_become_one(gaps: list[int], more: set[int]) -> None:
    found: numbering.Gaps = ()
    for seq in [*gaps, *more]:
        found = with_gap(found, seq, seq)
    taken = {seq for begin, end in found for seq in range(begin, end + 1)}
    assert taken == {*gaps, *more}
    assert all(end + 1 < begin for (_, end), (begin, _) in itertools.pairwise(found))


def test_ids_of_ours_are_read_back() -> None:
    assert numbering.seq_in(numbering.id_of(12)) == 12
    for other in ("msg-0", "msg-01", "msg-1-ab12", "MSG-1", "12", ""):
        assert numbering.seq_in(other) is None
    with pytest.raises(ValueError, match=r"."):
        gaps_in("1")
