"""Prompts by time: what the picture should show at each frame, faded from one text to the next.

Knows texts, frames and seconds; nothing about networks or pictures. Forms that are read:

    a forest ^ a burning forest ^ ashes              scenes of a prompt, one after the other
    {"0": "a forest", "120": "a burning forest:2"}   texts by frame; "max_f-30" is a frame too
    'apple': {10: 1, 20: 0}, 'pear': {10: 0, 20: 1}  weights of texts, by keys or as "0:(sin(t/9))"
    10: (apple: 1 | pear: 0), 20: (apple: 0)         the same, the older way
    song.lrc, film.srt                               texts by time
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqtools.animation.keyframes import Curve, CurveError
from vqtools.painting.prompts import Prompt, format_prompts, parse_prompts
from vqtools.settings import UserError, shorten

MAX_TEXT_LENGTH = 1_000_000  # characters of a lyrics file
_PLACEHOLDER = "{}"


@dataclass(frozen=True)
class PromptSchedule:
    """Call it with a frame: the prompt, as a Painter reads it.

    keyed: (frame, prompts) in order; the first also counts before its frame. fade: frames over which one turns into the
    next, from its frame on. weighted: texts whose weights are curves. cycle: the scenes by number, for an octave each.
    """

    keyed_prompts: tuple[tuple[int, tuple[Prompt, ...]], ...] = ()
    weighted: tuple[tuple[Prompt, Callable[[int], float]], ...] = ()
    fade: int = 0
    scene_prompts: tuple[str, ...] = ()

    def __call__(self, frame: int) -> str:
        if self.weighted:
            parts = [replace(prompt, weight=prompt.weight * weight(frame)) for prompt, weight in self.weighted]
        else:
            parts = self._crossfaded(frame)
        # a weight of nothing is dropped, unless nothing else is left
        heard = [part for part in parts if abs(part.weight) > 1e-6] or parts[:1]
        return format_prompts(heard)

    def _crossfaded(self, frame: int) -> list[Prompt]:
        index = max((i for i, (begin, _) in enumerate(self.keyed_prompts) if begin <= frame), default=0)
        begin, now = self.keyed_prompts[index]
        share = (frame - begin + 1) / (self.fade + 1)
        if index == 0 or share >= 1 or self.keyed_prompts[index - 1][1] == now:
            return list(now)
        share = share * share * (3 - 2 * share)
        parts: dict[tuple[str, float], float] = {}
        for part, scenes in ((1 - share, self.keyed_prompts[index - 1][1]), (share, now)):
            for prompt in scenes:
                name = (prompt.text, prompt.stop)
                parts[name] = parts.get(name, 0.0) + part * prompt.weight
        return [Prompt(text, weight, stop) for (text, stop), weight in parts.items()]


def parse_prompt_schedule(
    prompt: str,
    prompts_at: str = "",
    *,
    frames: int,
    fps: float = 12.0,
    fade: int = 0,
    scene_frames: int = 0,
    seed: int = 0,
    sound: Callable[[int], Mapping[str, float]] | None = None,
) -> PromptSchedule:
    r"""Read the prompt (with ``^`` between scenes, ``\^`` for the sign itself) and what is shown by time.

    A prompt with ``{}`` is what every text by time is put into; without, it holds until the first of them. Scenes are
    as long as ``scene_frames`` says, over and over, or share the frames evenly.
    """
    parts = [re.sub(r"\\\^", "^", part).strip() for part in re.split(r"(?<!\\)\^", prompt)]
    if len(parts) > 1 and not all(parts):
        raise UserError(f"an empty scene beside a ^ in {shorten(prompt)}: write text between them, or take the ^ out")
    if not prompts_at.strip():
        each = scene_frames or max(1, -(-frames // len(parts)))
        count = max(len(parts), -(-frames // each)) if scene_frames else len(parts)
        keyed = [(k * each, tuple(parse_prompts(parts[k % len(parts)]))) for k in range(count)]
        return PromptSchedule(tuple(keyed), fade=fade, scene_prompts=tuple(parts))
    if len(parts) > 1:
        raise UserError("scenes with ^ and prompts_at at once: one of them says what is shown when")
    around = parts[0] if _PLACEHOLDER in parts[0] else _PLACEHOLDER
    if Path(prompts_at.strip()).suffix.lower() in (".lrc", ".srt"):
        entries: list[tuple[str, Any]] = [
            (str(round(seconds * fps)), format_prompts([Prompt(text)]))
            for seconds, text in read_lyrics(prompts_at.strip())
        ]
    else:
        entries = parse_mapping(prompts_at)
    names = tuple(sound(0)) if sound is not None else ()
    weighted = _parse_weight_curves(entries, around, frames - 1, seed, names, sound)
    if weighted:
        return PromptSchedule(weighted=tuple(weighted))
    found: dict[int, tuple[Prompt, ...]] = {}
    for key, text in entries:
        found[_parse_frame(key, frames - 1, seed)] = tuple(parse_prompts(around.replace(_PLACEHOLDER, str(text))))
    if around == _PLACEHOLDER and parts[0] and min(found) > 0:
        found[0] = tuple(parse_prompts(parts[0]))
    return PromptSchedule(tuple(sorted(found.items())), fade=fade)


def parse_mapping(text: str) -> list[tuple[str, Any]]:
    """Keys with their values in order: JSON, Python's dictionaries, and the notebooks' notation without braces.

    A value is a text, a list of the same form, or :class:`BracketedText` text. CurveError points at what is wrong.
    """
    return _MappingParser(text).mapping(end="")


def _parse_frame(key: str, last: int, seed: int) -> int:
    value = Curve.parse(key)(0, last, seed)
    if abs(value) > 1e9:
        raise UserError(f"frame {key} in prompts_at: must be a whole number below a thousand million")
    return round(value)


def _is_frame(key: str) -> bool:
    try:
        Curve.parse(key)
    except CurveError:
        return False
    return True


def _parse_weight_curves(
    entries: list[tuple[str, Any]],
    around: str,
    last: int,
    seed: int,
    names: tuple[str, ...],
    sound: Callable[[int], Mapping[str, float]] | None,
) -> list[tuple[Prompt, Callable[[int], float]]]:
    """Texts with their curves, or nothing where the entries are texts by frame."""
    curves: dict[Prompt, str] = {}
    for key, value in entries:
        if isinstance(value, BracketedText):  # the older form: at this frame these texts weigh so much
            _parse_frame(key, last, seed)
            for prompt in parse_prompts(value):
                text = replace(prompt, weight=1.0)
                curves[text] = (curves[text] + ", " if text in curves else "") + f"{key}:({prompt.weight!r})"
        elif isinstance(value, list) or not _is_frame(key):
            for prompt in parse_prompts(key):
                keys = value if not isinstance(value, list) else ", ".join(f"{k}:({v})" for k, v in value)
                curves[prompt] = str(keys)
    if curves and any(type(value) is str and _is_frame(key) for key, value in entries):
        raise UserError("prompts_at holds texts by frame and weights of texts; it must be one or the other")

    def weight(curve: Curve) -> Callable[[int], float]:
        return lambda frame: curve(frame, last, seed, **(sound(frame) if sound is not None else {}))

    return [
        (replace(prompt, text=around.replace(_PLACEHOLDER, prompt.text)), weight(Curve.parse(text, variables=names)))
        for prompt, text in curves.items()
    ]


class BracketedText(str):
    """A value that stood in round brackets."""


class _MappingParser:
    """JSON, Python's dictionaries and the notebooks' notation without outer braces, all read as one."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT_LENGTH:
            raise UserError(f"prompts_at of {len(text)} characters; at most {MAX_TEXT_LENGTH} are read")
        self.text, self.at = text, 0

    def fail(self, message: str) -> CurveError:
        return CurveError(f"prompts_at: {message}", self.text, self.at + 1)

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, sign: str, what: str) -> None:
        if self.peek() != sign:
            raise self.fail(f"expected {what}")
        self.at += 1

    def mapping(self, end: str, deep: int = 0) -> list[tuple[str, Any]]:
        """key: value, …; with or without braces at the outermost level."""
        if not end and self.peek() == "{":
            self.at += 1
            entries = self.mapping("}", deep)
            self.take("}", "a closing brace")
            if self.peek():
                raise self.fail("expected nothing after the closing brace")
            return entries
        entries = []
        while self.peek() not in (end, ""):
            key = self.word(":")
            self.take(":", "a colon after the frame or the text")
            entries.append((key, self.value(deep)))
            if self.peek() == ",":
                self.at += 1
            elif self.peek() not in (end, ""):
                raise self.fail("expected a comma before the next entry")
        if not entries:
            raise self.fail('expected texts by frame, as in {"0": "a forest", "120": "a city"}')
        return entries

    def value(self, deep: int) -> Any:
        if self.peek() == "{":
            if deep:
                raise self.fail("braces within braces within braces")
            self.at += 1
            entries = self.mapping("}", deep + 1)
            self.take("}", "a closing brace")
            return entries
        if self.peek() == "(":
            depth, begin = 0, self.at
            while self.at < len(self.text):
                depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
                self.at += 1
                if not depth:
                    return BracketedText(self.text[begin + 1 : self.at - 1])
            raise self.fail("expected a closing bracket")
        return self.word(",}" if deep else ",")

    def word(self, ends: str) -> str:
        """A quoted text, or what stands before one of the ends."""
        quote = self.peek()
        if quote and quote in "\"'":
            match = re.compile(rf"{quote}((?:\\.|[^\\{quote}])*){quote}", re.DOTALL).match(self.text, self.at)
            if match is None:
                raise self.fail("this quotation mark is never closed")
            self.at = match.end()
            # of JSON's escapes those that a prompt may need; \: and \| are the prompt's own
            return re.sub(r"\\([\\/\"'n])", lambda one: " " if one[1] == "n" else one[1], match[1])
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends + "{}":
            self.at += 1
        word = self.text[begin : self.at].strip()
        if not word:
            raise self.fail("expected a text or a number")
        return word


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
