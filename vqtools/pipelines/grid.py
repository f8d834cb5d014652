"""Several paintings as one job: candidates to choose among, and grids that vary settings.

Knows settings and sessions; nothing about files or flags. How a sheet is drawn is in grid_layout.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from vqtools.core.errors import UserError, did_you_mean
from vqtools.core.record import build_record
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid_layout import GridLayout, draw_grid
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.variations import Halves, create_session_from_picture, cross_pictures

CANDIDATE_COUNT = 16
CANDIDATE_ITERATIONS = 40
STARTS_PER_CANDIDATE = 4  # drawn by the transformer; few, because the candidates themselves are the choice
MAX_CELLS = 256


@dataclass(frozen=True)
class GridCell:
    """One painting of a grid. ``row`` names what it shares with its row, ``label`` what is its own."""

    row: str
    label: str
    settings: PaintSettings


@dataclass
class CellResult:
    """A finished painting: its state, to continue it, and its PNG's record."""

    picture: Image.Image
    state: dict[str, Any]
    record: dict[str, Any]


class PaintGrid:
    """Paintings one after another, as a job; :meth:`pick`, :meth:`pick_with` and :meth:`cross` continue from them.

    cells: row by row. activity: "drafts" or "grid", for the record. create_session: makes a cell's painting.
    ``finished`` holds the results of the first cells, ``current`` the painting that is being made.
    """

    # what a user interface can do with this job; see PaintSession
    steerable = False
    supports_branching = False
    revision = 0  # there is no edit log

    def __init__(
        self,
        cells: Sequence[GridCell],
        *,
        activity: str = "grid",
        create_session: Callable[..., PaintSession] = create_session,
    ) -> None:
        if not 1 <= len(cells) <= MAX_CELLS:
            raise UserError(f"a grid of {len(cells)} paintings: 1 to {MAX_CELLS} are possible; vary less at once")
        self.cells, self.activity, self._create_session = list(cells), activity, create_session
        self.finished: list[CellResult] = []
        # made now, so that settings that cannot be painted raise their error at once
        self.current: PaintSession | None = create_session(cells[0].settings)
        self.machine, self.models = self.current.job.machine, dict(self.current.record().get("models", {}))
        self._candidate_rows = self.current.total - self.current.settings.iterations

    @property
    def settings(self) -> PaintSettings:
        """The settings of the first cell."""
        return self.cells[0].settings

    @property
    def position(self) -> int:
        """Steps done in all cells."""
        finished = sum(int(result.record["position"]) for result in self.finished)
        return finished + (self.current.position if self.current else 0)

    @property
    def total(self) -> int:
        """Steps in all cells; those not started are assumed to have as many rows of candidates as the first."""
        known = sum(int(result.record["total"]) for result in self.finished)
        known += self.current.total if self.current else 0
        not_started = self.cells[len(self.finished) + (self.current is not None) :]
        return known + sum(cell.settings.iterations + self._candidate_rows for cell in not_started)

    def step(self) -> dict[str, float]:
        """One step of the current painting; its scalars, and the number of the painting from 1."""
        session = self._current_session()
        scalars = session.step()
        if session.position >= session.total:
            self.finished.append(CellResult(session.picture(), session.state_dict(), session.record()))
            self.current = None
        return {"painting": float(min(len(self.finished) + 1, len(self.cells))), **scalars}

    def _current_session(self) -> PaintSession:
        if self.current is None:
            self.current = self._create_session(self.cells[len(self.finished)].settings)
        return self.current

    def preview(self) -> Image.Image:
        """The sheet in its current state; cells without a picture are grey."""
        pictures = [result.picture for result in self.finished]
        if self.current is not None and self.current.position:
            pictures.append(self.current.preview())
        return draw_grid(self.cells, pictures)

    picture = preview

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """The cells in :meth:`preview`: left, top, right, bottom as fractions of its width and height."""
        layout = self._layout()
        width, height = layout.size
        return [
            (left / width, top / height, right / width, bottom / height) for left, top, right, bottom in layout.boxes
        ]

    def preview_size(self) -> tuple[int, int]:
        """Width and height of :meth:`preview` once a painting is finished."""
        return self._layout().size

    def _layout(self) -> GridLayout:
        return GridLayout.of(self.cells, [result.picture for result in self.finished])

    def record(self) -> dict[str, Any]:
        """For the PNG: each cell's settings, as :func:`read_cells` reads them."""
        cells = [
            {"row": cell.row, "label": cell.label, "settings": cell.settings.model_dump(mode="json")}
            for cell in self.cells
        ]
        return build_record(self, activity=self.activity, cells=cells)

    def pick(self, index: int, **changes: Any) -> PaintSession:
        """Continue a finished painting, by its index from 0; ``changes`` are an edit at its end.

        Its record reproduces it from its start, the edit included.
        """
        result = self._result(index)
        session = self._create_session(self.cells[index].settings)
        session.load_state_dict(result.state)
        if changes:
            session.edit(changes)
        return session

    def pick_with(self, index: int, wanted: PaintSettings) -> PaintSession:
        """Continue a finished painting with the live fields of ``wanted``, such as the settings of a form.

        The run is extended to at least ``wanted.iterations``, by that many if the painting has them already.
        """
        session = self.pick(index)
        before = session.settings
        iterations = max(wanted.iterations, before.iterations)
        if iterations == before.iterations:
            iterations += wanted.iterations
        changes = {
            name: getattr(wanted, name)
            for name in PaintSettings.live_fields() - {"preset"}
            if getattr(wanted, name) != getattr(before, name)
        }
        session.edit({**changes, "iterations": iterations})
        return session

    def cross(self, first: int, second: int, halves: Halves = "left-right", **changes: Any) -> PaintSession:
        """A painting that starts from one half of each of two finished ones, with the settings of the first."""
        a, b = (self._result(index).picture for index in (first, second))
        settings = {**self.cells[first].settings.model_dump(), **changes}
        return create_session_from_picture(
            cross_pictures(a, b, halves), f"cross-{first + 1}-{second + 1}.png", settings
        )

    def _result(self, index: int) -> CellResult:
        if not 0 <= index < len(self.cells):
            raise UserError(f"there is no painting {index + 1} in the grid; there are 1 to {len(self.cells)}")
        if index >= len(self.finished):
            raise UserError(f"painting {index + 1} is not finished; {len(self.finished)} are")
        return self.finished[index]

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, finished pictures included."""
        finished = {
            str(i): {
                "picture": torch.from_numpy(np.array(result.picture)), "state": result.state, "record": result.record,
            }
            for i, result in enumerate(self.finished)
        }  # fmt: skip
        return {"done": finished, "now": self.current.state_dict() if self.current else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of a grid with the same cells."""
        results = [state["done"][str(i)] for i in range(len(state["done"]))]
        self.finished = [
            CellResult(Image.fromarray(result["picture"].numpy()), result["state"], result["record"])
            for result in results
        ]
        self.current = None
        if state["now"] is not None:
            self._current_session().load_state_dict(state["now"])


def create_candidate_grid(
    settings: PaintSettings,
    *,
    count: int = CANDIDATE_COUNT,
    explicit: Collection[str] | None = None,
    create_session: Callable[..., PaintSession] = create_session,
) -> PaintGrid:
    """Short runs of one prompt with consecutive seeds, to choose among.

    Each has CANDIDATE_ITERATIONS and STARTS_PER_CANDIDATE, unless the settings name others explicitly.

    explicit: names of the fields whose values are kept; by default those that the settings were constructed with.
        A form sets all fields: pass ``()`` there.
    """
    given = settings.model_fields_set if explicit is None else frozenset(explicit)
    short = {"iterations": CANDIDATE_ITERATIONS} if not {"iterations", "preset"} & given else {}
    short |= {"grids": STARTS_PER_CANDIDATE} if "grids" not in given else {}
    first_seed = settings.with_seed().known_seed
    base = settings.model_copy(update=short).quick()
    cells = [
        GridCell("", f"{i + 1} · seed {seed}", base.model_copy(update={"seed": seed}))
        for i, seed in enumerate(range(first_seed, first_seed + count))
    ]
    return PaintGrid(cells, activity="drafts", create_session=create_session)


def create_settings_grid(
    settings: PaintSettings,
    vary: Mapping[str, Sequence[Any]],
    *,
    create_session: Callable[..., PaintSession] = create_session,
) -> PaintGrid:
    """Every combination of the values that fields take; the last field varies along the rows.

    For example, ``vary={"prompt": ["a castle", "a tree"], "vqgan": ["starter", "mine"], "seed": [1, 2, 3]}``.
    """
    fields = PaintSettings.model_fields
    if unknown := [name for name in vary if name not in fields]:
        raise UserError(f"there is no setting {unknown[0]!r} to vary{did_you_mean(unknown[0], fields)}")
    vary = {name: list(values) for name, values in vary.items() if len(values)}
    if "seed" not in vary:  # one for all cells: else they could not be compared
        settings = settings.with_seed()
    vary = vary or {"seed": [settings.seed]}
    names = list(vary)
    given = {name: getattr(settings, name) for name in settings.model_fields_set | {"seed"}}
    row_names = sorted(names[:-1], key=lambda name: name == "prompt")  # the prompt last: it may be cut off
    cells = []
    for values in itertools.product(*vary.values()):
        cell_settings = PaintSettings.parse({**given, **dict(zip(names, values, strict=True))}).quick()
        row = " · ".join(_setting_label(name, getattr(cell_settings, name)) for name in row_names)
        label = _setting_label(names[-1], getattr(cell_settings, names[-1]))
        cells.append(GridCell(row, label, cell_settings))
    return PaintGrid(cells, create_session=create_session)


def read_cells(record: Mapping[str, Any]) -> list[GridCell]:
    """The cells of a grid from its PNG's record; UserError if the record is not one of a grid."""
    entries = record.get("cells")
    if record.get("activity") not in ("drafts", "grid") or not isinstance(entries, list):
        raise UserError("this picture is not a grid; expected a PNG made by vqtools candidates or vqtools grid")
    cells = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("settings"), dict):
            raise UserError("the grid's record is broken: a painting without settings")
        settings = PaintSettings.parse(entry["settings"])
        cells.append(GridCell(str(entry.get("row", "")), str(entry.get("label", "")), settings))
    return cells


def _setting_label(name: str, value: Any) -> str:
    if name == "prompt":
        return str(value)
    return f"{name} {'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
