"""The command `vqtools paint`: one picture, one for each line of a file, or one that continues from a picture's record.

Knows flags, files and messages; `pipelines.paint` and its neighbours do the work. Imports nothing heavy before it is
called.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vqtools.cli.blocks import add_blocks
from vqtools.cli.options import SettingsCommand, debug_option, fields_from_flags, join_prompt
from vqtools.cli.output import echo_status, finish_painting, parse_out_path
from vqtools.core.errors import UserError
from vqtools.core.settings import Settings

if TYPE_CHECKING:
    from vqtools.painting.session import PaintSession
    from vqtools.painting.settings import PaintSettings


def paint_settings() -> type[Settings]:
    """Return the settings class, imported when it is needed."""
    from vqtools.painting.settings import PaintSettings

    return PaintSettings


@dataclass(frozen=True)
class _Request:
    """What the flags ask for.

    fields: settings by name. record: of the picture given by --from, else empty. blocks: names of prompt blocks.
    replay: follow the edits in the record. unchanged: no setting differs from the record's.
    """

    fields: dict[str, Any]
    record: dict[str, Any]
    blocks: tuple[str, ...]
    replay: bool
    unchanged: bool
    trusted: bool
    folder: Path
    name: str | None
    bigger: float | None


@click.command(cls=SettingsCommand, settings=paint_settings)
@click.argument("prompt", nargs=-1)
@click.option("--from", "source", metavar="PICTURE.png", help="Take all settings from a picture made by vqtools.")
@click.option("--replay", is_flag=True, help="With --from: repeat its edits too, even if other flags change settings.")
@click.option("--film", is_flag=True, help="With --from: write a video of how the picture was made.")
@click.option(
    "--bigger", metavar="FACTOR", type=float, help="Continue at a larger size, from --from or the new picture [1 to 2]."
)
@click.option("--with", "added", metavar="BLOCK", multiple=True, help="Add a prompt block; see vqtools blocks.")
@click.option("--prompts", metavar="FILE", help="Paint one picture for each line of a text file.")
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
    """Paint a picture of PROMPT under CLIP guidance.

    Separate several prompts by |. Each can have a weight; a negative weight is a negative prompt. To enlarge the
    result, use --bigger or vqtools upscale.

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

    text = join_prompt(prompt, "paint")
    folder, name = parse_out_path(out, (".png", ".mp4", ".webm", ".gif") if film else (".png",))
    check_writable(folder)
    fields = fields_from_flags(flags) | ({} if text is None else {"prompt": text})
    record = read_record(source) if source is not None else {}
    texts = [*([] if text is None else [text]), *(read_prompt_file(prompts) if prompts else [])]
    if not texts and source is None:
        raise UserError('there is no prompt; say what to paint: vqtools paint "a red apple"')
    if source is None and (replay or film):
        raise UserError(f"--{'film' if film else 'replay'} needs the picture that was made: --from PICTURE.png")
    if film:
        return _write_timelapse(str(source), record, fields, trust_paths, folder, name)
    if bigger is not None and source is not None:
        return _paint_bigger(source, record, bigger, _with_blocks(fields, added, record), folder, name, trust_paths)
    _resolve_larger_size(fields, record)
    unchanged = not fields and not added
    request = _Request(fields, record, added, replay or unchanged, unchanged, trust_paths, folder, name, bigger)
    return _paint_all(request, texts)


def _paint_all(request: _Request, texts: list[str]) -> int:
    """Paint each prompt, or without any the record's own, until one is stopped; returns the last exit code."""
    if request.replay and request.record:
        from vqtools.pipelines.reproduce import with_initial_settings

        request = replace(request, record=with_initial_settings(request.record))
    code = 0
    for text in texts or (None,):
        fields = request.fields if text is None else {**request.fields, "prompt": text}
        fields = _with_blocks(fields, request.blocks, request.record)
        code, path = _paint_one(_parse_settings(fields, request.record), request)
        if not code and request.bigger is not None:
            code = _paint_bigger(str(path), None, request.bigger, {}, request.folder, None, True)
        if code:
            break
    return code


def _parse_settings(fields: dict[str, Any], record: dict[str, Any]) -> PaintSettings:
    """Settings from flags, on top of a record's; torch is imported only for a preset or a record."""
    from vqtools.painting.settings import PaintSettings

    if "preset" in fields:
        from vqtools.pipelines.presets import apply_preset

        fields = apply_preset(fields, notify=echo_status)
    if record:
        from vqtools.pipelines.reproduce import settings_from_record

        fields = {**settings_from_record(record, fields), **fields}
    return PaintSettings.parse(fields).quick()


def _paint_one(settings: PaintSettings, request: _Request) -> tuple[int, Path]:
    """Paint and save one picture; an unchanged record's picture stops where that one was stopped."""
    from vqtools.pipelines.paint import create_session
    from vqtools.pipelines.reproduce import describe_differences

    started = time.monotonic()
    record = request.record
    job = create_session(settings, record=record or None, trusted=request.trusted, replay=request.replay)
    notes = describe_differences(record, job.record()) if record else []
    limit = job.stop_at if request.unchanged else None
    stop = functools.partial(_limit_reached, job, limit) if limit is not None else None
    return finish_painting(job, request.folder, request.name, started, stop=stop, notes=notes)


def _limit_reached(job: PaintSession, limit: int) -> bool:
    return job.position >= limit


def _with_blocks(fields: dict[str, Any], names: tuple[str, ...], record: dict[str, Any]) -> dict[str, Any]:
    """The fields with prompt blocks added to their prompt, or to the record's."""
    if not names:
        return fields
    stored = record.get("settings")
    prompt = fields.get("prompt") or (stored.get("prompt") if isinstance(stored, dict) else None)
    return {**fields, "prompt": add_blocks(str(prompt), names)}


def _resolve_larger_size(fields: dict[str, Any], record: dict[str, Any]) -> None:
    """Replace `--size larger` by twice the record's sides, which every VQGAN takes that took the smaller size."""
    if fields.get("size") != "larger":
        return
    stored = record.get("settings", {}) if isinstance(record.get("settings", {}), dict) else {}
    size = stored.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise UserError("size 'larger' needs a picture to be larger than: --from PICTURE.png; or write WxH")
    fields["size"] = f"{2 * size[0]}x{2 * size[1]}"


def _write_timelapse(
    source: str, record: dict[str, Any], fields: dict[str, Any], trusted: bool, folder: Path, name: str | None
) -> int:
    """Replay how a picture was made, and write it as a video."""
    from vqtools.core.job import run_job
    from vqtools.painting.settings import PaintSettings
    from vqtools.pipelines.reproduce import replay
    from vqtools.pipelines.timelapse import Timelapse

    _resolve_larger_size(fields, record)
    if others := set(fields) - {"size"}:
        raise UserError(
            f"--{min(others).replace('_', '-')} with --film: the video shows how the picture was made;"
            " only --size may differ"
        )
    size = PaintSettings.parse(fields).size if fields else None
    path = folder / (name or f"{Path(source).stem}-making.mp4")
    if path.exists():
        raise UserError(f"{path} exists already; choose another name with --out")
    with Timelapse(replay(record, size=size, trusted=trusted)) as timelapse:
        if not run_job(timelapse, label="filming"):
            raise KeyboardInterrupt
        video = timelapse.write(path)
    click.echo(f"{video.path} ({video.size[0]}x{video.size[1]}, {video.frames} frames)")
    return 0


def _paint_bigger(
    source: str,
    record: dict[str, Any] | None,
    factor: float,
    fields: dict[str, Any],
    folder: Path,
    name: str | None,
    trusted: bool,
) -> int:
    """Continue from a finished picture at a larger size. record: the picture's, if it has been read."""
    from vqtools.pipelines.variations import enlarge

    started = time.monotonic()
    job = enlarge(source, factor, record=record, trusted=trusted, **fields)
    return finish_painting(job, folder, name or f"{Path(source).stem}-bigger.png", started)[0]
