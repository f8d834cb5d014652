"""Several paintings on one sheet, with labels: drafts to choose among, and grids that vary settings.

Knows settings and easels; a sheet is a job as a single painting is one. Nothing about files or flags.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vqtools.core.errors import UserError, did_you_mean
from vqtools.core.record import build_record
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.paint import create_session
from vqtools.pipelines.variations import Halves, create_session_from_picture, cross_pictures

CANDIDATE_COUNT = 16
CANDIDATE_ITERATIONS = 40  # of a draft sheet
STARTS_PER_CANDIDATE = 4  # that the transformer draws for each draft: the sheet itself is the choice
MAX_CELLS = 256  # paintings on a sheet
_MAX_SIDE = 384  # pixels along a picture's longer side on the sheet


@dataclass(frozen=True)
class GridCell:
    """One painting of a sheet. ``row`` names what it shares with its row, ``label`` what is its own."""

    row: str
    label: str
    settings: PaintSettings


@dataclass
class CellResult:
    """A painting that is finished: what it needs to go on, what its PNG holds."""

    picture: Image.Image
    state: dict[str, Any]
    record: dict[str, Any]


class PaintGrid:
    """Paintings one after another, as a job; :meth:`pick_cell` and :meth:`cross` go on from them.

    cells: row by row. ``finished`` holds what is finished, by the cell's number from 0.
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
            raise UserError(f"a sheet of {len(cells)} paintings: 1 to {MAX_CELLS} are possible; vary less at once")
        self.cells, self.activity, self._create_session = list(cells), activity, create_session
        self.finished: list[CellResult] = []
        self.current: PaintSession | None = create_session(cells[0].settings)  # what can't be painted is said at once
        self.machine, self.models = self.current.job.machine, dict(self.current.record().get("models", {}))
        self._rows = self.current.total - self.current.settings.iterations

    @property
    def settings(self) -> PaintSettings:
        """Those of the first painting."""
        return self.cells[0].settings

    @property
    def position(self) -> int:
        return sum(int(done.record["position"]) for done in self.finished) + (
            self.current.position if self.current else 0
        )

    @property
    def total(self) -> int:
        """Steps in all; what other networks will need before their first step is taken to be as here."""
        known = sum(int(done.record["total"]) for done in self.finished) + (self.current.total if self.current else 0)
        rest = self.cells[len(self.finished) + (self.current is not None) :]
        return known + sum(cell.settings.iterations + self._rows for cell in rest)

    def step(self) -> dict[str, float]:
        """One step of the painting under way."""
        job = self._current_session()
        scalars = job.step()
        if job.position >= job.total:
            self.finished.append(CellResult(job.picture(), job.state_dict(), job.record()))
            self.current = None
        return {"painting": float(min(len(self.finished) + 1, len(self.cells))), **scalars}

    def _current_session(self) -> PaintSession:
        if self.current is None:
            self.current = self._create_session(self.cells[len(self.finished)].settings)
        return self.current

    def preview(self) -> Image.Image:
        """The sheet as it stands, grey where nothing is painted yet."""
        pictures = [done.picture for done in self.finished]
        if self.current is not None and self.current.position:
            pictures.append(self.current.preview())
        return draw_grid(self.cells, pictures)

    picture = preview

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Where the paintings stand in :meth:`preview`: left, top, right, bottom as shares of its sides."""
        layout = self._layout()
        width, height = layout.size
        return [(a / width, b / height, c / width, d / height) for a, b, c, d in layout.boxes]

    def preview_size(self) -> tuple[int, int]:
        """Width and height of :meth:`preview` once a painting is finished."""
        return self._layout().size

    def _layout(self) -> _GridLayout:
        return _GridLayout.of(self.cells, _largest_size([_thumbnail(done.picture) for done in self.finished]))

    def record(self) -> dict[str, Any]:
        """For the PNG: each painting's settings, as :func:`read_cells` reads them again."""
        cells = [{"row": one.row, "label": one.label, "settings": one.settings.model_dump(mode="json")}
                 for one in self.cells]  # fmt: skip
        return build_record(self, activity=self.activity, cells=cells)

    def pick(self, index: int, **changes: Any) -> PaintSession:
        """A painting of the sheet, by its number from 0, to go on with; ``changes`` are an edit at its end.

        Its record makes it again from its beginning, the edit included.
        """
        done = self._result(index)
        job = self._create_session(self.cells[index].settings)
        job.load_state_dict(done.state)
        if changes:
            job.edit(changes)
        return job

    def pick_with(self, index: int, wanted: PaintSettings) -> PaintSession:
        """A cell to continue with the live fields of ``wanted``, such as the settings of a form.

        The run is extended to at least ``wanted.iterations``, by that many if the cell has them already.
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
        """A painting that begins with one half of each of two, in this order, under the first one's settings."""
        a, b = (self._result(index).picture for index in (first, second))
        settings = {**self.cells[first].settings.model_dump(), **changes}
        return create_session_from_picture(
            cross_pictures(a, b, halves), f"cross-{first + 1}-{second + 1}.png", settings
        )

    def _result(self, index: int) -> CellResult:
        if not 0 <= index < len(self.cells):
            raise UserError(f"there is no painting {index + 1} on the sheet; there are 1 to {len(self.cells)}")
        if index >= len(self.finished):
            raise UserError(f"painting {index + 1} is not finished; {len(self.finished)} are")
        return self.finished[index]

    def state_dict(self) -> dict[str, Any]:
        done = {
            str(i): {"picture": torch.from_numpy(np.array(one.picture)), "state": one.state, "record": one.record}
            for i, one in enumerate(self.finished)
        }
        return {"done": done, "now": self.current.state_dict() if self.current else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a sheet with the same cells."""
        stored = [state["done"][str(i)] for i in range(len(state["done"]))]
        self.finished = [
            CellResult(Image.fromarray(one["picture"].numpy()), one["state"], one["record"]) for one in stored
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

    explicit: names of the fields whose values are kept; without it, those that the settings were constructed with.
        A form sets all fields: pass ``()`` there.
    """
    given = settings.model_fields_set if explicit is None else frozenset(explicit)
    short = {"iterations": CANDIDATE_ITERATIONS} if not {"iterations", "preset"} & given else {}
    short |= {"grids": STARTS_PER_CANDIDATE} if "grids" not in given else {}
    seed = settings.with_seed().known_seed
    base = settings.model_copy(update=short).quick()
    cells = [
        GridCell("", f"{i + 1} · seed {seed + i}", base.model_copy(update={"seed": seed + i})) for i in range(count)
    ]
    return PaintGrid(cells, activity="drafts", create_session=create_session)


def create_settings_grid(
    settings: PaintSettings,
    vary: Mapping[str, Sequence[Any]],
    *,
    create_session: Callable[..., PaintSession] = create_session,
) -> PaintGrid:
    """A grid of runs: every combination of the values that fields take; the last field goes from left to right.

    As in ``grid(settings, {"prompt": ["a castle", "a tree"], "vqgan": ["starter", "mine"], "seed": [1, 2, 3]})``.
    """
    known = PaintSettings.model_fields
    if wrong := [name for name in vary if name not in known]:
        raise UserError(f"there is no setting {wrong[0]!r} to vary{did_you_mean(wrong[0], known)}")
    vary = {name: list(values) for name, values in vary.items() if len(values)}
    if "seed" not in vary:  # the same for all cells: else nothing could be compared
        settings = settings.with_seed()
    vary = vary or {"seed": [settings.seed]}
    names = list(vary)
    given = {name: getattr(settings, name) for name in settings.model_fields_set | {"seed"}}
    cells = []
    for values in itertools.product(*vary.values()):
        chosen = dict(zip(names, values, strict=True))
        one = PaintSettings.parse({**given, **chosen}).quick()
        # a long prompt stands last, where it may be cut
        rest = sorted(names[:-1], key=lambda name: name == "prompt")
        row = " · ".join(_setting_label(name, getattr(one, name)) for name in rest)
        cells.append(GridCell(row, _setting_label(names[-1], getattr(one, names[-1])), one))
    return PaintGrid(cells, create_session=create_session)


def read_cells(record: Mapping[str, Any]) -> list[GridCell]:
    """The paintings of the sheet that a PNG's record tells of; UserError where it tells of none."""
    cells = record.get("cells")
    if record.get("activity") not in ("drafts", "grid") or not isinstance(cells, list):
        raise UserError("this picture is no sheet; expected a PNG that vqtools drafts or vqtools grid made")
    made = []
    for cell in cells:
        if not isinstance(cell, dict) or not isinstance(cell.get("settings"), dict):
            raise UserError("the sheet's record is broken: a painting without settings")
        settings = PaintSettings.parse(cell["settings"])
        made.append(GridCell(str(cell.get("row", "")), str(cell.get("label", "")), settings))
    return made


def draw_grid(cells: Sequence[GridCell], pictures: Sequence[Image.Image], columns: int = 0) -> Image.Image:
    """Pictures, the first of the cells', in their rows, each under its label; grey where there is none yet."""
    shown = [_thumbnail(picture) for picture in pictures]
    plan = _GridLayout.of(cells, _largest_size(shown), columns)
    sheet = Image.new("RGB", plan.size, "white")
    pen = ImageDraw.Draw(sheet)
    for y, text in plan.titles:
        pen.text((plan.gap, y), _truncate(text, plan.font, plan.size[0] - 2 * plan.gap), fill="black", font=plan.font)
    waiting = iter(shown)
    for cell, (left, top, right, bottom) in zip(cells, plan.boxes, strict=True):
        label = _truncate(cell.label, plan.font, right - left)
        pen.text((left, top - plan.strip), label, fill=(70, 70, 70), font=plan.font)
        picture = next(waiting, None)
        if picture is None:
            pen.rectangle((left, top, right - 1, bottom - 1), fill=(225, 225, 225))
        else:
            sheet.paste(picture, (left, top))
    return sheet


@dataclass
class _GridLayout:
    """Where everything stands on a sheet, in pixels."""

    size: tuple[int, int]
    boxes: list[tuple[int, int, int, int]]
    titles: list[tuple[int, str]]
    font: Any
    strip: int
    gap: int

    @classmethod
    def of(cls, cells: Sequence[GridCell], largest: tuple[int, int], columns: int = 0) -> _GridLayout:
        rows = [list(group) for _, group in itertools.groupby(cells, key=lambda cell: cell.row)]
        if len(rows) == 1:  # as square as it gets
            wide = columns or int(np.ceil(np.sqrt(len(cells))))
            rows = [rows[0][i : i + wide] for i in range(0, len(cells), wide)]
        width, height = largest
        font = ImageFont.load_default(max(10, min(16, width // 12)))
        strip, gap = int(font.size * 1.6), max(2, width // 48)  # type: ignore[union-attr]
        boxes, titles, y = [], [], gap
        for row in rows:
            if row[0].row:
                titles.append((y, row[0].row))
                y += strip
            lefts = [gap + i * (width + gap) for i in range(len(row))]
            boxes += [(left, y + strip, left + width, y + strip + height) for left in lefts]
            y += height + strip + gap
        across = max(len(row) for row in rows) * (width + gap) + gap
        return cls((across, y), boxes, titles, font, strip, gap)


def _largest_size(pictures: Sequence[Image.Image]) -> tuple[int, int]:
    width, height = (max((one.size[i] for one in pictures), default=128) for i in (0, 1))
    return width, height


def _thumbnail(picture: Image.Image) -> Image.Image:
    scale = min(1.0, _MAX_SIDE / max(picture.size))
    if scale == 1:
        return picture
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def _truncate(text: str, font: Any, width: int) -> str:
    """As much of a text as stands in a width."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _setting_label(name: str, value: Any) -> str:
    if name == "prompt":
        return str(value)
    return f"{name} {'x'.join(map(str, value)) if isinstance(value, tuple) else value}"
