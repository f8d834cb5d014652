"""What a queue has done, for people: one line, a table, and a report with a grid of the pictures.

Reads the status of items, as `pipelines.queue` stores it; runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqtools.core.files import atomic_write, write_text
from vqtools.media.image import load_picture
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines.grid import GridCell
from vqtools.pipelines.grid_layout import draw_grid

Status = Mapping[str, Any]
"""What is stored about an item: file, number, prompt, status (done, begun, failed or skipped), reason, out, …"""

_STATUS_WORDS = {"done": "made", "begun": "begun", "failed": "failed", "skipped": "skipped"}
_MAX_PICTURES = 64  # in the grid of the report


def summarise(statuses: Sequence[Status]) -> str:
    """Return one line: the number of items by status, and the time that painting took."""
    parts = []
    for status, word in _STATUS_WORDS.items():
        if count := sum(item.get("status") == status for item in statuses):
            parts.append(f"{count} {word}")
    seconds = sum(float(item.get("seconds", 0)) for item in statuses)
    return ", ".join(parts or ["nothing to do"]) + (f"; {_format_duration(seconds)} of painting" if seconds else "")


def table_rows(statuses: Sequence[Status]) -> list[list[str]]:
    """Return a row for each item: file, picture or reason, size, steps, time."""
    rows = []
    for item in statuses:
        settings = item.get("settings") or {}
        size = "×".join(str(side) for side in settings.get("size", ()))
        status = str(item.get("status"))
        result = (
            str(item.get("out")) if status == "done" else f"{status}: {item.get('reason') or 'continues next time'}"
        )
        name = f"{item.get('file')} ({item['number']})" if item.get("number") else str(item.get("file"))
        steps = f"{item.get('position', 0)} of {item['total']}" if item.get("total") else ""
        duration = _format_duration(float(item["seconds"])) if item.get("seconds") else ""
        rows.append([name, result, size, steps, duration])
    return rows


def markdown_table(statuses: Sequence[Status]) -> list[str]:
    """Return the lines of the table in Markdown, pictures as links."""
    lines = ["| file | picture | size | steps | time |", "| --- | --- | --- | --- | --- |"]
    for row, item in zip(table_rows(statuses), statuses, strict=True):
        cells = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in row]
        if item.get("status") == "done":
            cells[1] = f"[{cells[1]}](<{cells[1]}>)"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write_report(statuses: Sequence[Status], out: Path, *, with_grid: bool = True) -> Path:
    """Write report.md and report.png (a grid of at most 64 pictures) in the folder ``out``; return the first path."""
    path = out / "report.md"
    lines = ["# What the queue did", "", summarise(statuses) + ".", "", *markdown_table(statuses), ""]
    write_text(path, "\n".join(lines))
    names = [str(item["out"]) for item in statuses if item.get("status") == "done" and (out / item["out"]).is_file()]
    names = names[:_MAX_PICTURES]
    if with_grid and names:
        pictures = [load_picture(out / name) for name in names]
        cells = [GridCell("", name.removesuffix(".png"), PaintSettings()) for name in names]
        with atomic_write(out / "report.png") as temporary:
            draw_grid(cells, pictures).save(temporary, "PNG")
    return path


def _format_duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
