"""Runs of several paintings as one grid, and runs that continue from one: what the painting panel does with grids.

Knows a panel's form and runner, and grids; nothing about widgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vqtools.core.errors import UserError

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession
    from vqtools.pipelines.grid import PaintGrid
    from vqtools.pipelines.variations import Halves
    from vqtools.ui.paint_panel import PaintPanel


class GridRuns:
    """Starts grids in a panel's runner and continues their paintings."""

    def __init__(self, panel: PaintPanel) -> None:
        self._panel = panel

    @property
    def last_grid(self) -> PaintGrid | None:
        """The last grid, of candidates or of several settings."""
        return self._panel.runner.panel_state.get("grid")

    @property
    def is_shown(self) -> bool:
        """Whether the panel shows the last grid."""
        return self.last_grid is not None and self._panel.runner.job is self.last_grid

    def candidates(self, count: int) -> None:
        """Paint short runs of so many seeds."""
        settings = self._panel.checked_settings()

        def make() -> PaintGrid:
            from vqtools.pipelines.grid import create_candidate_grid

            make_job = self._panel.make_job
            return self._keep(create_candidate_grid(settings, count=count, explicit=(), create_session=make_job))

        self._panel.switch_to(make)

    def grid(self, vary: Mapping[str, list[Any]]) -> None:
        """Paint every combination of the values that fields take."""
        settings = self._panel.checked_settings()

        def make() -> PaintGrid:
            from vqtools.pipelines.grid import create_settings_grid

            return self._keep(create_settings_grid(settings, vary, create_session=self._panel.make_job))

        self._panel.switch_to(make)

    def pick(self, index: int) -> None:
        """Continue a painting of the last grid with the settings in the form."""
        grid, settings = self._require_grid(), self._panel.form.settings().quick()
        self._panel.switch_to(lambda: self._shown(grid.pick_with(index, settings)))

    def cross(self, first: int, second: int, halves: Halves) -> None:
        """Start from one half of each of two paintings of the last grid."""
        grid, iterations = self._require_grid(), self._panel.form.settings().quick().iterations
        self._panel.switch_to(lambda: self._shown(grid.cross(first, second, halves, iterations=iterations)))

    def enlarge(self, session: PaintSession, factor: float) -> None:
        """Continue a painting at a larger size."""

        def make() -> PaintSession:
            from vqtools.pipelines.variations import enlarge

            return self._shown(enlarge(session, factor))

        self._panel.switch_to(make)

    def show_grid(self) -> None:
        """Show the last grid again."""
        grid = self._require_grid()
        self._panel.history_bar.reset()
        self._panel.runner.switch_to(lambda: grid, at_rest=True)

    def _keep(self, grid: PaintGrid) -> PaintGrid:
        self._panel.runner.panel_state["grid"] = grid
        return grid

    def _require_grid(self) -> PaintGrid:
        if self.last_grid is None:
            raise UserError("there is no grid to choose from; press Candidates first")
        return self.last_grid

    def _shown(self, session: PaintSession) -> PaintSession:
        self._panel.live_form.show_settings(session)
        return session
