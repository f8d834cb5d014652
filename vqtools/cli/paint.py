"""The command `vqtools paint`, and how a picture is named and saved.

Knows flags, files and words; the work itself is the studio's. Imports nothing heavy before it is called.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.options import SettingsCommand, debug_option, fields_from_flags
from vqtools.cli.output import finish_painting, parse_out_path
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession


def paint_settings() -> type[Settings]:
    from vqtools.painting.settings import PaintSettings

    return PaintSettings


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--from", "source", metavar="PICTURE.png", help="Take all settings from a picture made by vqtools.")
@click.option("--replay", is_flag=True, help="With --from: make it again as it was steered, whatever flags change.")
@click.option("--film", is_flag=True, help="With --from: a video of how it was made.")
@click.option(
    "--bigger", metavar="FACTOR", type=float, help="Go on at a larger size, from --from or once it is painted [1 to 2]."
)
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a block of words; see vqtools blocks.")
@click.option("--prompts", metavar="FILE", help="One picture for each line of a text file.")
@click.option("--trust-paths", is_flag=True, help="With --from: read the files that the picture's settings name.")
@click.option("--out", metavar="PATH", help="File or folder to write to [default: named after prompt and seed].")
@debug_option
def paint(
    prompt: tuple[str, ...],
    source: str | None,
    replay: bool,
    film: bool,
    bigger: float | None,
    added: tuple[str, ...],
    prompts: str | None,
    trust_paths: bool,
    out: str | None,
    **flags: Any,
) -> int:
    """Paint a picture of PROMPT.

    \b
    vqtools paint "a red apple"
    vqtools paint "a castle in the clouds:1.5 | blur:-0.3" --size 256x256 --seed 42 --with watercolour
    vqtools paint --from picture.png
    vqtools paint --from picture.png --replay --size larger
    vqtools paint --from picture.png --bigger 2
    vqtools paint --from picture.png --film
    """
    from vqtools.core.files import check_writable
    from vqtools.media.png_record import read_record
    from vqtools.painting.prompt_blocks import read_prompt_file
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.reproduce import settings_from_record

    if len(prompt) > 1:
        raise UserError(f'the prompt is one argument; put it in quotes: vqtools paint "{" ".join(prompt)}"')
    folder, name = parse_out_path(out, (".png", ".mp4", ".webm", ".gif") if film else (".png",))
    check_writable(folder)
    fields = fields_from_flags(flags)
    if prompt:
        fields["prompt"] = prompt[0]
    record = read_record(source) if source is not None else {}
    asked = [*([fields["prompt"]] if "prompt" in fields else []), *(read_prompt_file(prompts) if prompts else [])]
    if not asked and source is None:
        raise UserError('there is no prompt; say what to paint: vqtools paint "a red apple"')
    if source is None and (replay or film):
        raise UserError(f"--{'film' if film else 'replay'} wants the picture whose making it tells: --from PICTURE.png")
    if film:
        return _write_timelapse(str(source), record, fields, trust_paths, folder, name)
    if bigger is not None and source is not None:
        return _paint_bigger(source, bigger, _add_blocks_to_fields(fields, added, record), folder, name, trust_paths)
    _resolve_larger_size(fields, record)
    same, replay = not fields and not added, replay or not (fields or added)
    if replay and "began" in record:  # the journal leads from these to those that the picture ended with
        record = {**record, "settings": record["began"]}
    code = 0
    for one in asked or [None]:
        wish = _add_blocks_to_fields(fields if one is None else {**fields, "prompt": one}, added, record)
        if "preset" in wish:
            from vqtools.pipelines.presets import apply_preset

            wish = apply_preset(wish, say=functools.partial(click.echo, err=True))
        settings = PaintSettings.parse({**settings_from_record(record, wish), **wish}).quick()
        code, path = _paint_one(settings, record, same, replay, trust_paths, folder, name)
        if not code and bigger is not None:
            code = _paint_bigger(str(path), bigger, {}, folder, None, True)
        if code:
            break
    return code


def _add_blocks_to_fields(fields: dict[str, Any], added: tuple[str, ...], record: dict[str, Any]) -> dict[str, Any]:
    """The fields with blocks added to their prompt, or to the record's."""
    if not added:
        return fields
    from vqtools.painting.prompt_blocks import add_blocks

    stored = record.get("settings")
    prompt = fields.get("prompt") or (stored.get("prompt") if isinstance(stored, dict) else None)
    return {**fields, "prompt": add_blocks(str(prompt), added)}


def _resolve_larger_size(fields: dict[str, Any], record: dict[str, Any]) -> None:
    """`--size larger`: twice the record's sides, which suits every VQGAN that the smaller size suited."""
    if fields.get("size") != "larger":
        return
    stored = record.get("settings", {}) if isinstance(record.get("settings", {}), dict) else {}
    size = stored.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise UserError("size 'larger' wants a picture that it is larger than: --from PICTURE.png; or write WxH")
    fields["size"] = f"{2 * size[0]}x{2 * size[1]}"


def _write_timelapse(
    source: str, record: dict[str, Any], fields: dict[str, Any], trusted: bool, folder: Path, name: str | None
) -> int:
    """A video of a picture's making."""
    from vqtools.core.job import run_job
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.reproduce import replay
    from vqtools.pipelines.timelapse import Timelapse

    _resolve_larger_size(fields, record)
    if wrong := set(fields) - {"size"}:
        raise UserError(
            f"--{min(wrong).replace('_', '-')} with --film: the picture is made as it was, only --size may differ"
        )
    size = PaintSettings.parse(fields).size if fields else None
    path = folder / (name or f"{Path(source).stem}-making.mp4")
    if path.exists():
        raise UserError(f"{path} is there already; choose another with --out")
    with Timelapse(replay(record, size=size, trusted=trusted)) as film:
        if not run_job(film, label="filming"):
            raise KeyboardInterrupt
        made = film.write(path)
    click.echo(f"{made.path} ({made.size[0]}x{made.size[1]}, {made.frames} frames)")
    return 0


def _paint_bigger(
    source: str, factor: float, fields: dict[str, Any], folder: Path, name: str | None, trusted: bool
) -> int:
    """Go on from a finished picture at a larger size."""
    from vqtools.pipelines.variations import enlarge

    started = time.monotonic()
    job = enlarge(source, factor, trusted=trusted, **fields)
    return finish_painting(job, folder, name or f"{Path(source).stem}-bigger.png", started)[0]


def _paint_one(
    settings: Any, record: dict[str, Any], same: bool, replay: bool, trusted: bool, folder: Path, name: str | None
) -> tuple[int, Path]:
    """Paint, save, say where. `same` asks for the record's very picture, stopped where that one was."""
    from vqtools.pipelines.paint import create_session
    from vqtools.pipelines.reproduce import describe_differences

    started = time.monotonic()
    job = create_session(settings, record=record or None, trusted=trusted, replay=replay)
    notes = describe_differences(record, job.record()) if record else []
    limit = job.stop_at if same else None
    at_limit = functools.partial(_limit_reached, job, limit) if limit is not None else None
    return finish_painting(job, folder, name, started, stop=at_limit, notes=notes)


def _limit_reached(job: PaintSession, limit: int) -> bool:
    return job.position >= limit
