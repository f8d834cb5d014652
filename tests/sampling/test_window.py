"""The positions of the sliding window, over all grids up to 40 × 40 and windows up to 16."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqtools.sampling.window import Cell, Window, cells_beside_seam, choose_flips, growth_corners

quick = settings(max_examples=60, deadline=None)


@st.composite
def windows(draw: st.DrawFn, strides: bool = True, height: int = 40, width: int = 40) -> Window:
    side = draw(st.integers(1, 16))
    most = side - side // 2 if strides else 1
    stride = (draw(st.integers(1, most)), draw(st.integers(1, most)))
    grid = draw(st.integers(1, height)), draw(st.integers(1, width))
    return Window(*grid, side, draw(st.integers(1, 300)), stride, draw(st.booleans()))


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Window, list[Cell]]:
    """A window and the cells that are to be drawn, some of a grid's being known."""
    window = draw(windows(height=24, width=24))
    grid = [(row, column) for row in range(window.height) for column in range(window.width)]
    known = draw(st.one_of(st.just(set()), st.sets(st.sampled_from(grid))))
    return window, window.cells(known)


def before(window: Window, cell: Cell) -> list[Cell]:
    """The cells that are read before a cell is drawn, by the definition."""
    top, left = window.origin(*cell)
    inside = [(top + i, left + j) for i in range(window.side) for j in range(window.side)]
    return inside[: window.position(*cell)]


@quick
@given(windows())
def test_a_window_is_inside_the_grid_and_contains_its_cell(window: Window) -> None:
    for row in range(window.height):
        for column in range(window.columns):
            top, left = window.origin(row, column)
            assert 0 <= top <= max(0, window.height - window.side) and 0 <= left <= window.columns - window.side
            assert 0 <= row - top < window.side and 0 <= column - left < window.side
            assert window.position(row, column) == window.side * (row - top) + column - left


@quick
@given(windows(strides=False))
def test_without_a_stride_the_origin_equals_the_reference(window: Window) -> None:
    half = window.side // 2
    for row in range(window.height):
        for column in range(window.width):
            expected = (
                min(max(row - half, 0), max(window.height - window.side, 0)),
                min(max(column - half, 0), max(window.width - window.side, 0)),
            )
            assert window.origin(row, column) == expected


@quick
@given(windows())
def test_a_stride_moves_the_window_in_steps_and_keeps_the_rows_above(window: Window) -> None:
    exact = Window(window.height, window.width, window.side)
    for row in range(window.height):
        top = window.origin(row, 0)[0]
        assert top <= exact.origin(row, 0)[0]
        assert top % window.stride[0] == 0 or top == window.height - window.side


@quick
@given(tasks())
def test_a_cell_depends_on_known_cells_and_earlier_waves_only(task: tuple[Window, list[Cell]]) -> None:
    window, cells = task
    missing, drawn = set(cells), set()
    for wave in window.waves(cells):
        for cell in wave:
            assert not [one for one in before(window, cell) if one in missing and one not in drawn]
        drawn |= set(wave)
    assert drawn == missing


@quick
@given(windows())
def test_waves_are_short_and_few(window: Window) -> None:
    waves = window.waves(window.cells())
    if not window.together:
        assert [len(wave) for wave in waves] == [1] * len(window.cells())
    else:
        assert max(map(len, waves)) <= -(-window.columns // window.side)
        assert len(waves) <= window.side * (window.height - 1) + window.columns


@quick
@given(tasks())
def test_the_cells_of_an_origin_come_in_sequence_order(task: tuple[Window, list[Cell]]) -> None:
    window, cells = task
    order = [cell for wave in window.waves(cells) for cell in wave]
    for origin, drawn in window.readings(cells).items():
        assert [cell for cell in order if window.origin(*cell) == origin] == drawn
        counts = [window.tokens_before(*cell) for cell in drawn]
        assert counts == sorted(set(counts))


@quick
@given(tasks(), st.integers(0, 4000))
def test_caches_stay_under_their_limit_and_never_cost_more(task: tuple[Window, list[Cell]], limit: int) -> None:
    window, cells = task
    readings = window.readings(cells)
    kept, full = window.capacities(cells, limit), window.capacities(cells)
    assert kept.keys() == full.keys() == readings.keys()
    assert all(0 <= kept[origin] <= full[origin] for origin in full)
    assert window.peak(cells, kept) <= limit
    # the peak, counted plainly
    times = [window.time(*cell) for cell in cells]
    lives = {origin: (window.time(*drawn[0]), window.time(*drawn[-1])) for origin, drawn in readings.items()}
    held = [sum(kept[origin] for origin, (a, b) in lives.items() if a <= now <= b) for now in times]
    assert window.peak(cells, kept) == max(held, default=0)
    none = sum(window.tokens_before(*cell) for cell in cells)
    best = sum(window.tokens_before(*drawn[-1]) for drawn in readings.values())
    assert window.evaluations(cells, {}) == none
    assert window.evaluations(cells, full) == best <= window.evaluations(cells, kept) <= none


@quick
@given(tasks(), st.integers(0, 2000))
def test_a_higher_cache_limit_never_reads_more(task: tuple[Window, list[Cell]], limit: int) -> None:
    window, cells = task
    whole = window.peak(cells, window.capacities(cells))
    assert window.capacities(cells, whole) == window.capacities(cells)
    small, large = (window.evaluations(cells, window.capacities(cells, room)) for room in (0, limit))
    assert large <= small


@quick
@given(windows())
def test_a_narrow_grid_is_the_left_part_of_one_as_wide_as_the_window(window: Window) -> None:
    cells = window.cells()
    wide = Window(window.height, window.columns, window.side, window.prefix, window.stride, window.together)
    assert set(cells) <= set(wide.cells())
    assert {cell for cell in cells if cell[1] < window.width} == {
        (row, column) for row in range(window.height) for column in range(window.width)
    }
    assert [window.tokens_before(*cell) for cell in cells] == [wide.tokens_before(*cell) for cell in cells]


@pytest.mark.parametrize(
    ("height", "width", "prefix", "block", "limit", "times"),
    [
        (16, 16, 256, 511, None, 256.0), (32, 32, 256, 511, None, 4.54), (32, 32, 1, 256, None, 6.30),
        (42, 64, 256, 511, None, 2.62), (64, 64, 256, 511, None, 2.21), (42, 64, 1, 256, None, 3.68),
        (42, 64, 256, 511, 2e9, 2.11), (42, 64, 256, 511, 5e9, 2.62), (32, 32, 256, 511, 0, 1.32),
    ],
)  # fmt: skip
def test_fewer_tokens_are_read_than_by_the_reference(
    height: int, width: int, prefix: int, block: int, limit: float | None, times: float
) -> None:
    window = Window(height, width, 16, prefix)
    cells, token = window.cells(), 24 * 2 * 1024 * 4  # bytes of a 24 × 1024 model's keys and values
    kept = window.capacities(cells, None if limit is None else int(limit // token))
    assert round(height * width * block / window.evaluations(cells, kept), 2) == times


def test_invalid_windows_raise_an_error() -> None:
    with pytest.raises(ValueError, match=r"stride \(9, 1\) of a window of 16 must be 1 to 8"):
        Window(32, 32, 16, stride=(9, 1))
    with pytest.raises(ValueError, match="0x4"):
        Window(4, 0)


@quick
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_flips_put_unknown_cells_after_known_ones(height: int, width: int, data: st.DataObject) -> None:
    split = data.draw(st.integers(0, width))
    left = {(row, column) for row in range(height) for column in range(split)}
    right = {(row, width - 1 - column) for row, column in left}
    assert choose_flips(left, height, width) == (False, False)
    assert choose_flips(right, height, width) == (False, 0 < split < width)
    below = {(height - 1 - row, column) for row in range(height // 2) for column in range(width)}
    assert choose_flips(below, height, width) == (bool(below), False)


@quick
@given(st.integers(1, 9), st.integers(2, 30), st.integers(2, 16))
def test_the_strip_over_a_seam_is_in_the_middle(height: int, width: int, side: int) -> None:
    known = cells_beside_seam(height, width, side)
    missing = {column for row in range(height) for column in range(width) if (row, column) not in known}
    assert {width // 2 - 1, width // 2} <= missing
    assert len(missing) <= max(2, side // 2) and len(known) == height * (width - len(missing))


@given(st.sets(st.tuples(st.integers(0, 39), st.integers(0, 39)), min_size=1), st.integers(1, 16))
def test_growth_starts_half_a_window_before_known_cells_and_ends_at_the_corner(known: set[Cell], side: int) -> None:
    corners, half = growth_corners(known, side), max(1, side // 2)
    first = min(row for row, _ in known), min(column for _, column in known)
    assert corners[-1] == (0, 0)
    for axis in (0, 1):
        places = [first[axis], *(corner[axis] for corner in corners)]
        assert all(0 <= before - after <= half for before, after in pairwise(places))


def test_growth_without_known_cells_or_from_the_corner_is_one_pass() -> None:
    assert growth_corners([], 12) == growth_corners([(0, 5), (3, 0)], 12) == [(0, 0)]
    assert growth_corners([(12, 0)], 12) == [(6, 0), (0, 0)]
    assert growth_corners([(4, 13)], 12) == [(0, 7), (0, 1), (0, 0)]
