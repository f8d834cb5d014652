"""The folder of a training run: settings, log and states, from which it is resumed.

Knows files, numbers and states; nothing about what is trained.

    NAME/settings.json          the settings, given or suggested
    NAME/log.csv                a row per report
    NAME/state-00001500.safetensors   the last few complete states
    NAME/reconstructions-….png  previews
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
    """The folder of one run. The last ``keep`` states are kept; older ones are deleted after a newer one is written."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    @property
    def exists(self) -> bool:
        """Whether there is a run in the folder."""
        return (self.folder / "settings.json").is_file()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Create the folder and write the settings. UserError if it contains a run already."""
        if self.exists:
            raise UserError(f"{self.folder} contains a run; continue it with --resume, or choose another --name")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write("settings.json", json.dumps(dict(settings), indent=1, sort_keys=True) + "\n")

    def settings(self) -> dict[str, Any]:
        """The settings that :meth:`begin` wrote. UserError if there are none, or if they are broken."""
        path = self.folder / "settings.json"
        try:
            settings = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(f"there is no run in {self.folder} to continue; omit --resume") from None
        except (OSError, ValueError, RecursionError):
            raise UserError(f"{path} is broken; start the run again under another --name") from None
        if not isinstance(settings, dict):
            raise UserError(f"{path} contains {shorten(settings)}; expected the settings of a run")
        return settings

    def write(self, name: str, text: str) -> None:
        """Write a small text file atomically."""
        write_text(self.folder / name, text)

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step or was stopped early."""
        if (self.folder / "finished.txt").is_file():
            return True
        states = self.states()  # older versions wrote no such file
        return self.exists and bool(states) and states[-1][0] == self.settings().get("steps")

    def finish(self, step: int) -> None:
        """Mark the run as finished."""
        self.write("finished.txt", f"after step {step}\n")

    def states(self) -> list[tuple[int, Path]]:
        """Every state with its step, oldest first."""
        matches = ((_STATE.fullmatch(path.name), path) for path in self.folder.glob("state-*.safetensors"))
        return sorted((int(match[1]), path) for match, path in matches if match)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state of a step, and delete the oldest ones."""
        path = save_state(self.folder / f"state-{step:08d}.safetensors", state)
        for _, old in self.states()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any] | None:
        """The newest state that can be read, or None if there are no states. UserError if none can be read."""
        problems = []
        for _, path in reversed(self.states()):
            try:
                return load_state(path)
            except UserError as error:
                problems.append(str(error))
        if problems:
            raise UserError("; ".join(problems))
        return None

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append a row. A number with a new name adds a column, which is empty in the rows before."""
        path = self.folder / "log.csv"
        columns, rows = self.read_log()
        new = [name for name in numbers if name not in columns]
        if new or not path.exists():
            self._rewrite([*(columns or ["step"]), *new], rows)
            columns = [*(columns or ["step"]), *new]
        with open(path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow({"step": step, **{k: f"{v:.6g}" for k, v in numbers.items()}})

    def read_log(self) -> tuple[list[str], list[dict[str, str]]]:
        """Columns and rows so far, without a last row cut short by a crash."""
        try:
            with open(self.folder / "log.csv", newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if row.get("step", "").isdigit() and None not in row.values()]
                return list(reader.fieldnames or []), rows
        except OSError:
            return [], []

    def rewind(self, step: int) -> None:
        """Delete the rows after a step, which a resumed run logs again."""
        columns, rows = self.read_log()
        if any(int(row["step"]) > step for row in rows):
            self._rewrite(columns, [row for row in rows if int(row["step"]) <= step])

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
        self.write("log.csv", "".join(",".join(line) + "\n" for line in lines))
