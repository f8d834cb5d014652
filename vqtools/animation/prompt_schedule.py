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

from vqtools.animation.keyframe_parser import CurveError
from vqtools.animation.keyframes import Curve
from vqtools.animation.lyrics import read_lyrics
from vqtools.animation.mapping_parser import BracketedText, parse_mapping
from vqtools.core.errors import UserError, shorten
from vqtools.painting.prompts import Prompt, format_prompts, parse_prompts

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
