"""TODO: what this module is.

Split from vqtools.queueing.
"""

from __future__ import annotations

from typing import Any


def summarise(told: list[dict[str, Any]]) -> str:
    """One line: how many of what, and how long."""
    counts = {
        status: sum(one.get("status") == status for one in told) for status in ("done", "begun", "failed", "skipped")
    }
    words = {"done": "made", "begun": "begun", "failed": "failed", "skipped": "passed over"}
    parts = [f"{count} {words[status]}" for status, count in counts.items() if count]
    seconds = sum(float(one.get("seconds", 0)) for one in told)
    return ", ".join(parts or ["nothing to do"]) + (f"; {_format_duration(seconds)} of painting" if seconds else "")


def table_rows(told: list[dict[str, Any]]) -> list[list[str]]:
    """Rows for people: file, picture or reason, size, steps, time."""
    rows = []
    for one in told:
        settings = one.get("settings") or {}
        size = "×".join(str(side) for side in settings.get("size", ()))
        status = str(one.get("status"))
        what = str(one.get("out")) if status == "done" else f"{status}: {one.get('reason') or 'goes on next time'}"
        name = f"{one.get('file')} ({one['number']})" if one.get("number") else str(one.get("file"))
        steps = f"{one.get('position', 0)} of {one['total']}" if one.get("total") else ""
        rows.append([name, what, size, steps, _format_duration(float(one["seconds"])) if one.get("seconds") else ""])
    return rows


def markdown_table(told: list[dict[str, Any]]) -> list[str]:
    """The table in Markdown, pictures as links."""
    lines = ["| file | picture | size | steps | time |", "| --- | --- | --- | --- | --- |"]
    for row, one in zip(table_rows(told), told, strict=True):
        cells = [cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for cell in row]
        if one.get("status") == "done":
            cells[1] = f"[{cells[1]}](<{cells[1]}>)"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _format_duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
