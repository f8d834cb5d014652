"""Prompts by time: the prompt at each frame, cross-faded from one text to the next.

Knows texts, frames and seconds; nothing about networks or images. Accepted forms:

    a forest ^ a burning forest ^ ashes              scenes of a prompt, one after the other
    {"0": "a forest", "120": "a burning forest:2"}   texts by frame; "max_f-30" is a frame too
    'apple': {10: 1, 20: 0}, 'pear': {10: 0, 20: 1}  weights of texts, by keys or as "0:(sin(t/9))"
    10: (apple: 1 | pear: 0), 20: (apple: 0)         the same in an older notation
    song.lrc, film.srt                               texts by time
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqtools.animation.easing import smoothstep
from vqtools.animation.keyframes import Curve, CurveError
from vqtools.animation.lyrics import read_lyrics
from vqtools.animation.mapping_parser import BracketedText, parse_mapping
from vqtools.core.errors import UserError, shorten
from vqtools.painting.prompts import Prompt, format_prompts, parse_prompts

Entries = list[tuple[str, Any]]
"""Keys and values of ``prompts_at``, as :func:`parse_mapping` returns them."""
AudioVariables = Callable[[int], Mapping[str, float]]
"""Audio features by name at a frame."""
_PLACEHOLDER = "{}"


@dataclass(frozen=True)
class PromptSchedule:
    """The prompt at each frame, as a Painter reads it; call it with a frame number.

    keyed_prompts: (frame, prompts) in order; the first also counts before its frame. crossfade: frames over which one
    turns into the next, from its frame on. weighted: texts whose weights are curves. scene_prompts: the scenes in
    order, which an octave zoom shows one per picture.
    """

    keyed_prompts: tuple[tuple[int, tuple[Prompt, ...]], ...] = ()
    weighted: tuple[tuple[Prompt, Callable[[int], float]], ...] = ()
    crossfade: int = 0
    scene_prompts: tuple[str, ...] = ()

    def __call__(self, frame: int) -> str:
        """The prompt at a frame."""
        if self.weighted:
            parts = [replace(prompt, weight=prompt.weight * weight(frame)) for prompt, weight in self.weighted]
        else:
            parts = self._crossfaded(frame)
        # texts of weight 0 are dropped, unless nothing else is left
        return format_prompts([part for part in parts if abs(part.weight) > 1e-6] or parts[:1])

    def _crossfaded(self, frame: int) -> list[Prompt]:
        index = max((i for i, (begin, _) in enumerate(self.keyed_prompts) if begin <= frame), default=0)
        begin, current = self.keyed_prompts[index]
        progress = (frame - begin + 1) / (self.crossfade + 1)
        if index == 0 or progress >= 1 or self.keyed_prompts[index - 1][1] == current:
            return list(current)
        eased = smoothstep(progress)
        weights: dict[tuple[str, float], float] = {}
        for factor, prompts in ((1 - eased, self.keyed_prompts[index - 1][1]), (eased, current)):
            for prompt in prompts:
                name = (prompt.text, prompt.stop)
                weights[name] = weights.get(name, 0.0) + factor * prompt.weight
        return [Prompt(text, weight, stop) for (text, stop), weight in weights.items()]


def parse_prompt_schedule(
    prompt: str,
    prompts_at: str = "",
    *,
    frames: int,
    fps: float = 12.0,
    crossfade: int = 0,
    scene_frames: int = 0,
    seed: int = 0,
    audio: AudioVariables | None = None,
) -> PromptSchedule:
    r"""Parse the prompt (with ``^`` between scenes, ``\^`` for the character itself) and the prompts by time.

    A prompt with ``{}`` is a template for every text by time; otherwise it holds until the first of them. Scenes are
    ``scene_frames`` long and repeat, or share the frames evenly if that is 0. Raises UserError.
    """
    scenes = tuple(re.sub(r"\\\^", "^", part).strip() for part in re.split(r"(?<!\\)\^", prompt))
    if len(scenes) > 1 and not all(scenes):
        raise UserError(f"an empty scene beside a ^ in {shorten(prompt)}: write text between them, or remove the ^")
    if not prompts_at.strip():
        return PromptSchedule(_scene_keys(scenes, frames, scene_frames), crossfade=crossfade, scene_prompts=scenes)
    if len(scenes) > 1:
        raise UserError("scenes with ^ and prompts_at at once: use one of them")
    template = scenes[0] if _PLACEHOLDER in scenes[0] else _PLACEHOLDER
    entries = _read_entries(prompts_at, fps)
    names = tuple(audio(0)) if audio is not None else ()
    weighted = _parse_weight_curves(entries, template, frames - 1, seed, names, audio)
    if weighted:
        return PromptSchedule(weighted=tuple(weighted))
    keyed = {
        _parse_frame(key, frames - 1, seed): tuple(parse_prompts(template.replace(_PLACEHOLDER, str(text))))
        for key, text in entries
    }
    if template == _PLACEHOLDER and scenes[0] and min(keyed) > 0:
        keyed[0] = tuple(parse_prompts(scenes[0]))
    return PromptSchedule(tuple(sorted(keyed.items())), crossfade=crossfade)


def _scene_keys(scenes: tuple[str, ...], frames: int, scene_frames: int) -> tuple[tuple[int, tuple[Prompt, ...]], ...]:
    """The first frame and the prompts of each scene, repeated where ``scene_frames`` is given."""
    length = scene_frames or max(1, -(-frames // len(scenes)))
    count = max(len(scenes), -(-frames // length)) if scene_frames else len(scenes)
    return tuple((k * length, tuple(parse_prompts(scenes[k % len(scenes)]))) for k in range(count))


def _read_entries(prompts_at: str, fps: float) -> Entries:
    """The entries of a mapping, or of a lyrics file whose lines are texts without prompt syntax."""
    if Path(prompts_at.strip()).suffix.lower() not in (".lrc", ".srt"):
        return parse_mapping(prompts_at)
    lines = read_lyrics(prompts_at.strip())
    return [(str(round(seconds * fps)), format_prompts([Prompt(text)])) for seconds, text in lines]


def _parse_frame(key: str, last: int, seed: int) -> int:
    value = Curve.parse(key)(0, last, seed)
    if abs(value) > 1e9:
        raise UserError(f"frame {key} in prompts_at: must be a whole number below 1,000,000,000")
    return round(value)


def _is_frame(key: str) -> bool:
    try:
        Curve.parse(key)
    except CurveError:
        return False
    return True


def _parse_weight_curves(
    entries: Entries,
    template: str,
    last: int,
    seed: int,
    names: tuple[str, ...],
    audio: AudioVariables | None,
) -> list[tuple[Prompt, Callable[[int], float]]]:
    """Texts with their weight curves; empty if the entries are texts by frame."""
    curves: dict[Prompt, str] = {}
    for key, value in entries:
        if isinstance(value, BracketedText):  # the older notation: weights of texts at this frame
            _parse_frame(key, last, seed)
            for prompt in parse_prompts(value):
                text = replace(prompt, weight=1.0)
                curves[text] = (curves[text] + ", " if text in curves else "") + f"{key}:({prompt.weight!r})"
        elif isinstance(value, list) or not _is_frame(key):
            for prompt in parse_prompts(key):
                curves[prompt] = ", ".join(f"{k}:({v})" for k, v in value) if isinstance(value, list) else str(value)
    if curves and any(type(value) is str and _is_frame(key) for key, value in entries):
        raise UserError("prompts_at holds texts by frame and weights of texts; write one or the other")

    def weight(curve: Curve) -> Callable[[int], float]:
        return lambda frame: curve(frame, last, seed, **(audio(frame) if audio is not None else {}))

    return [
        (replace(prompt, text=template.replace(_PLACEHOLDER, prompt.text)), weight(Curve.parse(text, variables=names)))
        for prompt, text in curves.items()
    ]
