"""Curves in characters."""

from __future__ import annotations

import pytest

from llm_guard.cli import curves


def test_a_curve_in_braille_has_four_levels_a_row_and_two_values_a_character() -> None:
    top, bottom = curves.rows([0, 1, 4, 8], 8.0, 2)
    assert (top, bottom) == (" ⢸", "⣀⣿")


def test_a_curve_in_ascii_has_three_levels_a_row() -> None:
    assert curves.rows([0, 2, 3, 4, 6, None], 6.0, 2, ascii_only=True) == ["   .# ", ".:### "]


@pytest.mark.parametrize("ascii_only", [True, False], ids=["ascii", "braille"])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_rows_have_the_width_that_they_were_given_values_for(ascii_only: bool, height: int) -> None:
    rows = curves.rows([1.0] * 61, 2.0, height, ascii_only=ascii_only)
    assert [len(row) for row in rows] == [61 if ascii_only else 31] * height


def test_what_is_beyond_the_axis_is_cut_and_a_zero_is_seen() -> None:
    assert curves.rows([99, 0, None], 10.0, 1, ascii_only=True) == ["#. "]


@pytest.mark.parametrize(("values", "top"), [([], 1), ([0, 0], 1), ([0.3], 0.3), ([0.31], 0.5), ([7], 10), ([10], 10),
                                             ([11], 20), ([48, 3], 50), ([1200], 2000)], ids=str)
def test_an_axis_ends_at_a_round_number_above(values: list[float], top: float) -> None:
    assert curves.ceiling(values) == pytest.approx(top)


def test_points_are_means_hold_where_nothing_came_and_end_with_the_last() -> None:
    assert curves.points([0.5, 0.9, 3.5], [2.0, 4.0, 8.0], 6.0, 6) == [3.0, 3.0, 3.0, 8.0, None, None]
    assert curves.points([], [], 4.0, 2) == [None, None]
