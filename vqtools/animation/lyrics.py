"""Timed text from lyrics and subtitle files, LRC and SRT.

Knows files, seconds and lines; nothing about prompts or frames.
"""

from __future__ import annotations

import re
from pathlib import Path

from vqtools.animation.mapping_parser import MAX_TEXT_LENGTH
from vqtools.core.errors import UserError


def read_lyrics(path: str | Path) -> list[tuple[float, str]]:
    """Read (seconds, line) in order from an .lrc or .srt file, without markup or empty lines.

    UserError if the file is missing, too large, or holds no timed line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"lyrics {str(path)!r} are not there")
    if path.stat().st_size > MAX_TEXT_LENGTH:
        raise UserError(f"lyrics {str(path)!r} are larger than {MAX_TEXT_LENGTH} characters")
    text = path.read_text("utf-8-sig", errors="replace")
    timed = _parse_srt(text) if path.suffix.lower() == ".srt" else _parse_lrc(text)
    timed = [(seconds, re.sub(r"<[^<>]*>", "", line).strip()) for seconds, line in timed]
    timed = sorted((seconds, " ".join(line.split())) for seconds, line in timed if line)
    if not timed:
        raise UserError(f"lyrics {str(path)!r} hold no timed line; expected [00:12.00] words, or 00:00:12,000 --> …")
    return timed


def _parse_lrc(text: str) -> list[tuple[float, str]]:
    """Lines such as ``[01:02.50]words``, also with several time stamps."""
    offset = re.search(r"^\[offset:\s*([+-]?\d{1,9})\]", text, re.MULTILINE | re.IGNORECASE)
    earlier = int(offset[1]) / 1000 if offset else 0.0  # a positive offset shows lines sooner
    timed = []
    for line in text.splitlines():
        stamps = re.match(r"\s*(?:\[\d{1,4}:\d{1,2}(?:[.:]\d{1,3})?\]\s*)+", line)
        if stamps is None:
            continue
        for minutes, seconds, fraction in re.findall(r"\[(\d+):(\d+)(?:[.:](\d+))?\]", stamps[0]):
            time = int(minutes) * 60 + int(seconds) + (float(f"0.{fraction}") if fraction else 0.0)
            timed.append((max(0.0, time - earlier), line[stamps.end() :]))
    return timed


def _parse_srt(text: str) -> list[tuple[float, str]]:
    """Blocks after a line such as ``00:00:01,000 --> 00:00:02,500``; only the start counts."""
    stamp = re.compile(r"^\s*(\d{1,3}):(\d{2}):(\d{2})[,.](\d{1,3})\s*-->.*$", re.MULTILINE)
    marks = list(stamp.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    timed = []
    for mark, end in zip(marks, ends, strict=True):
        hours, minutes, seconds = (int(mark[i]) for i in (1, 2, 3))
        block = text[mark.end() : end].strip("\r\n")
        block = re.split(r"\r?\n\s*\r?\n", block)[0]  # the number of the next block follows an empty line
        timed.append((hours * 3600 + minutes * 60 + seconds + float(f"0.{mark[4]}"), block))
    return timed
