"""TODO: what this module is.

Split from vqtools.animation.scenes.
"""

from __future__ import annotations

import re
from pathlib import Path

from vqtools.animation.mapping_parser import MAX_TEXT_LENGTH
from vqtools.core.errors import UserError


def read_lyrics(path: str | Path) -> list[tuple[float, str]]:
    """(seconds, line) of an .lrc or .srt file, in order; empty lines leave the one before standing."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"lyrics {str(path)!r} are not there")
    if path.stat().st_size > MAX_TEXT_LENGTH:
        raise UserError(f"lyrics {str(path)!r} are larger than {MAX_TEXT_LENGTH} characters")
    text = path.read_text("utf-8-sig", errors="replace")
    found = _parse_srt(text) if path.suffix.lower() == ".srt" else _parse_lrc(text)
    found = [(seconds, re.sub(r"<[^<>]*>", "", line).strip()) for seconds, line in found]
    found = sorted((seconds, " ".join(line.split())) for seconds, line in found if line)
    if not found:
        raise UserError(f"lyrics {str(path)!r} hold no timed line; expected [00:12.00] words, or 00:00:12,000 --> …")
    return found


def _parse_lrc(text: str) -> list[tuple[float, str]]:
    offset = re.search(r"^\[offset:\s*([+-]?\d{1,9})\]", text, re.MULTILINE | re.IGNORECASE)
    early = int(offset[1]) / 1000 if offset else 0.0  # a positive offset shows the line sooner
    found = []
    for line in text.splitlines():
        stamps = re.match(r"\s*(?:\[\d{1,4}:\d{1,2}(?:[.:]\d{1,3})?\]\s*)+", line)
        if stamps is None:
            continue
        for minutes, seconds, part in re.findall(r"\[(\d+):(\d+)(?:[.:](\d+))?\]", stamps[0]):
            time = int(minutes) * 60 + int(seconds) + (float(f"0.{part}") if part else 0.0)
            found.append((max(0.0, time - early), line[stamps.end() :]))
    return found


def _parse_srt(text: str) -> list[tuple[float, str]]:
    stamp = re.compile(r"^\s*(\d{1,3}):(\d{2}):(\d{2})[,.](\d{1,3})\s*-->.*$", re.MULTILINE)
    marks = list(stamp.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = []
    for mark, end in zip(marks, ends, strict=True):
        hours, minutes, seconds = (int(mark[i]) for i in (1, 2, 3))
        block = text[mark.end() : end].strip("\r\n")
        block = re.split(r"\r?\n\s*\r?\n", block)[0]  # the next number stands after an empty line
        found.append((hours * 3600 + minutes * 60 + seconds + float(f"0.{mark[4]}"), block))
    return found
