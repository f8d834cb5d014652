"""How a sliding window moves over a grid of codes, as arithmetic on integers.

Knows cells, origins and counts of tokens; nothing about tensors, transformers or pictures.

A transformer predicts the next code of a window of side × side cells in raster order, after a prefix. A cell is in
the middle of its window unless the grid's borders prevent it (Esser et al. 2021, arXiv 2012.09841, section 3.2,
figure 3). Prefix and codes of the window are a sequence; a cell is predicted from the tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

Cell = tuple[int, int]
Origin = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The positions of a window on a grid of ``height`` × ``width`` cells.

    prefix: tokens before the window's codes. stride: rows and columns the window moves at a time; (1, 1) is exact,
    more is faster. together: whether cells that do not depend on each other are sampled at the same time, with
    several rows advancing as a wavefront. A grid narrower than the window is sampled as the left part of one as wide,
    because positions are embedded as side · row + column.

    >>> Window(32, 32, side=16).origin(20, 3)
    (12, 0)
    """

    height: int
    width: int
    side: int = 16
    prefix: int = 1
    stride: tuple[int, int] = (1, 1)
    together: bool = True

    def __post_init__(self) -> None:
        max_stride = self.side - self.side // 2
        if min(self.height, self.width, self.side) < 1:
            raise ValueError(f"a grid of {self.width}x{self.height} and a window of {self.side} must be at least 1")
        if not all(1 <= stride <= max_stride for stride in self.stride):
            raise ValueError(f"stride {self.stride} of a window of {self.side} must be 1 to {max_stride}")

    @property
    def columns(self) -> int:
        """Columns that are sampled: the grid's, or the window's if the grid is narrower."""
        return max(self.width, self.side)

    def origin(self, row: int, column: int) -> Origin:
        """The upper left cell of the window in which a cell is predicted."""
        rows = max(self.height, self.side)
        return self._origin(row, rows, self.stride[0]), self._origin(column, self.columns, self.stride[1])

    def _origin(self, at: int, length: int, stride: int) -> int:
        centred = max(0, at - self.side // 2)
        return min(centred - centred % stride, length - self.side)

    def position(self, row: int, column: int) -> int:
        """The index of a cell within its window, in raster order."""
        top, left = self.origin(row, column)
        return self.side * (row - top) + column - left

    def tokens_before(self, row: int, column: int) -> int:
        """Tokens that are read before a cell is sampled: the prefix, and its window's cells before it."""
        return self.prefix + self.position(row, column)

    def cells(self, known: Iterable[Cell] = ()) -> list[Cell]:
        """The cells to sample in raster order: all but the known ones, and none after the last that is in the grid."""
        given = set(known)
        missing = [
            (row, column) for row in range(self.height) for column in range(self.columns) if (row, column) not in given
        ]
        inside = [cell for cell in missing if cell[1] < self.width]
        return [cell for cell in missing if cell <= inside[-1]] if inside else []

    def time(self, row: int, column: int) -> int:
        """When a cell can be sampled, in units of one cell; cells with the same time do not depend on each other.

        The row above must be ``side`` cells ahead, because a window reaches so far to the right.
        """
        return (self.side if self.together else self.columns) * row + column

    def waves(self, cells: Iterable[Cell]) -> list[list[Cell]]:
        """Group cells by time, in the order of sampling."""
        ordered = sorted(cells, key=lambda cell: (self.time(*cell), cell))
        return [list(wave) for _, wave in groupby(ordered, key=lambda cell: self.time(*cell))]

    def readings(self, cells: Iterable[Cell]) -> dict[Origin, list[Cell]]:
        """The cells predicted in each origin's window, in the order in which it reads up to them."""
        readings: dict[Origin, list[Cell]] = {}
        for cell in sorted(cells):
            readings.setdefault(self.origin(*cell), []).append(cell)
        return readings

    def capacities(self, cells: Iterable[Cell], limit: int | None = None) -> dict[Origin, int]:
        """How many tokens each origin's cache keeps from its first reading to its last; 0 where none saves a reading.

        limit: tokens in all caches at any time; None for no limit. Greedy: tokens that save the most readings per
        unit of time that they are kept come first. So the caches at a row's ends, which live for half a window, take
        precedence over those along the upper and lower border, which live for half a window of rows.
        """
        readings = self.readings(cells)
        full = {origin: self.tokens_before(*drawn[-2]) if len(drawn) > 1 else 0 for origin, drawn in readings.items()}
        if limit is None or not full:
            return full
        lives = {
            origin: (self.time(*drawn[0]), self.time(*drawn[-1]) + 1)
            for origin, drawn in readings.items()
            if full[origin]
        }
        free = [limit] * max((stop for _, stop in lives.values()), default=0)
        offers = []
        for origin, (start, stop) in lives.items():
            counts = [0, *(self.tokens_before(*cell) for cell in readings[origin])]
            for rank, (before, after) in enumerate(pairwise(counts[:-1])):
                worth = (len(counts) - 2 - rank) / (stop - start)
                offers.append((-worth, origin, before, after))
        kept = dict.fromkeys(full, 0)
        for _, origin, before, after in sorted(offers):
            start, stop = lives[origin]
            grant = min(after - before, *free[start:stop]) if kept[origin] == before else 0
            kept[origin] += grant
            if grant:
                free[start:stop] = [room - grant for room in free[start:stop]]
        return kept

    def evaluations(self, cells: Iterable[Cell], capacities: Mapping[Origin, int]) -> int:
        """Tokens that are read in total, with caches of these capacities."""
        total = 0
        for origin, drawn in self.readings(cells).items():
            held = 0
            for cell in drawn:
                total += self.tokens_before(*cell) - held
                held = min(self.tokens_before(*cell), capacities.get(origin, 0))
        return total

    def peak(self, cells: Iterable[Cell], capacities: Mapping[Origin, int]) -> int:
        """The maximum number of tokens in the caches at any time."""
        changes: list[tuple[int, int]] = []
        for origin, drawn in self.readings(cells).items():
            changes.append((self.time(*drawn[0]), capacities.get(origin, 0)))
            changes.append((self.time(*drawn[-1]) + 1, -capacities.get(origin, 0)))
        current = peak = 0
        for _, change in sorted(changes):
            current += change
            peak = max(peak, current)
        return peak


def choose_flips(known: Iterable[Cell], height: int, width: int) -> tuple[bool, bool]:
    """Whether to flip a picture top to bottom and left to right, so that unknown cells come after known ones.

    A transformer in raster order reads the cells above and to the left: a picture is extended upwards or to the left
    by extending its mirror image downwards or to the right.
    """
    given = set(known)
    count = len(given)
    if count in (0, height * width):
        return False, False
    # compare the known cells' centre with the grid's, by sums: everything stays an integer
    below = 2 * sum(row for row, _ in given) > count * (height - 1)
    right = 2 * sum(column for _, column in given) > count * (width - 1)
    return below, right


def growth_corners(known: Iterable[Cell], side: int) -> list[Origin]:
    """The corners from which a grid is sampled towards its lower right, one after the other; the last is (0, 0).

    For a transformer that reads the known codes of its whole window of ``side`` cells. Starting from the far corner
    of the grid, it would sample cells before known ones are in its window, and leave a visible border where it meets
    them; so the first corner is half a window above and to the left of the known cells, and each later one half a
    window further.
    """
    given = list(known)
    half = max(1, side // 2)
    row, column = (max(0, min(axis) - half) for axis in zip(*given, strict=True)) if given else (0, 0)
    corners = [(row, column)]
    while corners[-1] != (0, 0):
        row, column = max(0, row - half), max(0, column - half)
        corners.append((row, column))
    return corners


def cells_beside_seam(height: int, width: int, side: int) -> set[Cell]:
    """The known cells of a grid that is rolled by half its width: all but a strip of half a window in its middle.

    What is sampled in the strip joins the picture's right border to its left one.
    """
    half = max(1, min(side // 2, width // 2)) // 2 or 1
    middle = width // 2
    return {
        (row, column) for row in range(height) for column in range(width) if not middle - half <= column < middle + half
    }
