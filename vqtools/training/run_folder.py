"""The folder of a training: settings, log, checkpoints. All that resume needs, and nothing that can't be read.

Knows files, numbers and states; nothing about what is trained.

    NAME/settings.json          what was asked for, and what was chosen
    NAME/log.csv                a row a report
    NAME/state-00001500.safetensors   complete states, the last few
    NAME/reconstructions-….png  and what else the training shows
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqtools.core.errors import UserError, shorten
from vqtools.core.files import write_text
from vqtools.core.state_file import load_state, save_state

_STATE = re.compile(r"state-(\d+)\.safetensors")


class RunFolder:
    """One training's folder. ``keep`` states stay; older ones go when a newer one is safely written."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    @property
    def exists(self) -> bool:
        return (self.folder / "settings.json").is_file()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder and write the settings; UserError where a run is there already."""
        if self.exists:
            raise UserError(f"{self.folder} holds a run; go on with --resume, or choose another --name")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("settings.json", json.dumps(dict(settings), indent=1, sort_keys=True) + "\n")

    def settings(self) -> dict[str, Any]:
        """What :meth:`begin_run` wrote."""
        path = self.folder / "settings.json"
        try:
            found = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(f"there is no run in {self.folder} to go on with; leave --resume away") from None
        except (OSError, ValueError, RecursionError):
            raise UserError(f"{path} is broken; start the run again under another --name") from None
        if not isinstance(found, dict):
            raise UserError(f"{path} holds {shorten(found)}; expected the settings of a run")
        return found

    def write(self, name: str, text: str) -> None:
        """A small text file, whole or not at all."""
        write_text(self.folder / name, text)

    @property
    def finished(self) -> bool:
        """Whether all steps were made, or all that were any good."""
        if (self.folder / "finished.txt").is_file():
            return True
        states = self.states()  # a run of a version that wrote no such file
        return self.exists and bool(states) and states[-1][0] == self.settings().get("steps")

    def finish(self, step: int) -> None:
        """Note that nothing is left to do."""
        self.write("finished.txt", f"after step {step}\n")

    # -- states

    def states(self) -> list[tuple[int, Path]]:
        """Every state with its step, oldest first."""
        found = ((_STATE.fullmatch(path.name), path) for path in self.folder.glob("state-*.safetensors"))
        return sorted((int(match[1]), path) for match, path in found if match)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        path = save_state(self.folder / f"state-{step:08d}.safetensors", state)
        for _, old in self.states()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None where there is none yet."""
        problems = []
        for _, path in reversed(self.states()):
            try:
                return load_state(path)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError("; ".join(problems))
        return None

    # -- the log

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One row. A number of a new name gets a column of its own; the rows before have nothing there."""
        path = self.folder / "log.csv"
        columns, rows = self.read_log()
        new = [name for name in numbers if name not in columns]
        if new or not path.exists():
            self._rewrite([*(columns or ["step"]), *new], rows)
            columns = [*(columns or ["step"]), *new]
        with open(path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow({"step": step, **{k: f"{v:.6g}" for k, v in numbers.items()}})

    def read_log(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows so far; a row that a crash cut short is left out."""
        try:
            with open(self.folder / "log.csv", newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if row.get("step", "").isdigit() and None not in row.values()]
                return list(reader.fieldnames or []), rows
        except OSError:
            return [], []

    def rewind(self, step: int) -> None:
        """Forget the rows after a step: what is resumed from there will be logged again."""
        columns, rows = self.read_log()
        if any(int(row["step"]) > step for row in rows):
            self._rewrite(columns, [row for row in rows if int(row["step"]) <= step])

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
        self.write("log.csv", "".join(",".join(line) + "\n" for line in lines))
