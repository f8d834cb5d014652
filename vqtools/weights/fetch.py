"""Downloads that are checked before they are opened: resumed where they stopped, from the next mirror where one fails.

Knows addresses, sizes and hashes; the records are the registry's, the conversion is convert's. Nothing is opened
before its size and sha256 are those of the record; a file that is another one is renamed to *.bad and never opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from vqtools.core.errors import UserError, did_you_mean, shorten
from vqtools.core.paths import home_folder
from vqtools.weights.registry import WeightsRecord, all_records, format_bytes, url_suffix

Progress = Callable[[int, int | None], None]  # bytes that are here, bytes in all

TIMEOUT = 30.0  # seconds without a byte
MAX_TRIES = 3  # in a row that bring nothing new, before the next mirror
RETRY_PAUSE = 1.0  # seconds before the second try, doubled for each further one
_CHUNK_BYTES = 1 << 20


class _MirrorError(Exception):
    """Why a mirror can't be used."""


def find_downloadable(name: str) -> WeightsRecord:
    """The record of a name, of any kind, that has something to download."""
    found = [one for one in all_records() if one.name == name]
    if not found:
        raise UserError(f"weights.txt has no {shorten(name)}{did_you_mean(name, {one.name for one in all_records()})}")
    return next((one for one in found if one.urls), found[0])


def fetch(record: WeightsRecord, *, yes: bool = False, say: Callable[[str], None] = lambda text: None) -> Path:
    """Download, check and convert a network, once; the file that it lies in from then on.

    yes: agree to a record that is unverified; without it that is a UserError which says why. say: is told what was
    done, a line at a time. UserError also where no mirror has the file, or the disk is full.
    """
    if record.place.exists():
        say(f"{record.name} is here already: {record.place}")
        return record.place
    if not record.urls:
        raise UserError(f"{record.name} comes with the program, but {record.place} is missing; install vqtools again")
    if record.unverified_reason and not yes:
        raise UserError(
            f"{record.name} is unverified: {record.unverified_reason}; to use it all the same, say --yes (yes=True)"
        )
    folder = _downloads_folder(record)
    stem = record.name.replace("/", "--")
    target, config = folder / (stem + url_suffix(record.urls[0])), _fetch_config(record, folder, stem, say)
    with tqdm(total=record.bytes, unit="B", unit_scale=True, desc=record.name, disable=None) as bar:

        def progress(here: int, total: int | None) -> None:
            bar.total = total
            bar.update(here - bar.n)

        used = download(record.urls, target, sha256=record.sha256, size=record.bytes, progress=progress)
    checked = "its sha256 is right" if record.sha256 else "there was no hash to check it by"
    say(f"downloaded {format_bytes(target.stat().st_size)} from {used}; {checked}")
    return _convert_download(record, target, config, say)


def _fetch_config(record: WeightsRecord, folder: Path, stem: str, say: Callable[[str], None]) -> Path | None:
    """The config that belongs to the file; a VQGAN can do without one."""
    if not record.config_urls:
        return None
    config = folder / (stem + url_suffix(record.config_urls[0]))
    try:
        download(record.config_urls, config, sha256=record.config_sha256)
    except UserError as error:
        if record.kind != "vqgan":
            raise
        say(f"going on without its config: {error}")
        return None
    return config


def _downloads_folder(record: WeightsRecord) -> Path:
    """The folder of downloads, with room for the file and for what it is converted to."""
    folder = home_folder() / "downloads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder} can't be used ({error.strerror}); set VQTOOLS_HOME to another folder") from None
    need = 2 * (record.bytes or 0)
    if need > free:
        raise UserError(
            f"{record.name} takes {format_bytes(need)} while it is converted, but {folder} has {format_bytes(free)} left; "
            "make room, or set VQTOOLS_HOME to another folder"
        )
    return folder


def _convert_download(record: WeightsRecord, target: Path, config: Path | None, say: Callable[[str], None]) -> Path:
    """Convert a checked download to our format; a CLIP or a perceptual network stays as it is."""
    place = record.place
    place.parent.mkdir(parents=True, exist_ok=True)
    if record.kind in ("clip", "perceptual"):
        os.replace(target, place)
        say(f"kept as {place}")
        return place
    from vqtools.weights import convert
    from vqtools.weights.convert import paths_by_name

    about = {"name": record.name, "licence": record.licence, "trained on": record.trained_on}
    place_of = paths_by_name(place.parent, place.stem)
    done = convert.convert(target, place_of, kind=record.kind, config=config, about=about)
    for note in done.notes:
        say(note)
    for kind, path in done.files.items():
        say(f"converted from {done.family}: {kind} in {path}")
    for used in (target, config):
        if used is not None:
            used.unlink(missing_ok=True)
    say("the download was taken away: the converted file is all that is opened from now on")
    return place


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str = "",
    size: int | None = None,
    progress: Progress = lambda here, total: None,
) -> str:
    """Bring the file to `target` from the first mirror that has it, and say which that was.

    It grows as TARGET.part, goes on where it stopped, and gets its name when size and sha256 are right. Without a
    sha256 it starts anew every time, because nothing could tell whether two halves belong together.
    """
    part = target.with_name(target.name + ".part")
    if sha256 and target.is_file() and not _file_problem(target, sha256, size):
        return "an earlier download"
    if not sha256:
        part.unlink(missing_ok=True)
    reasons = []
    for url in urls:
        host = urlsplit(url).netloc
        for _ in range(2):
            resumed = part.exists()
            try:
                _download_with_retries(url, part, size, progress)
                wrong = _file_problem(part, sha256, size)
            except _MirrorError as refusal:
                reasons.append(f"{host}: {refusal}")
                break
            if not wrong:
                os.replace(part, target)
                return host
            bad = target.with_name(target.name + ".bad")
            os.replace(part, bad)
            reasons.append(f"{host}: {wrong}, put aside as {bad}")
            if not resumed:  # else what was wrong may be the part that an earlier try left
                break
    raise UserError(f"{target.name} could not be downloaded: {'; '.join(reasons)}")


def _file_problem(path: Path, sha256: str, size: int | None) -> str:
    """What is wrong with a file, or ""."""
    there = path.stat().st_size
    if size is not None and there != size:
        return f"the file has {there:,} bytes instead of {size:,}"
    if sha256:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            return f"the file's sha256 is {found[:12]}… instead of {sha256[:12]}…"
    return ""


def _download_with_retries(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Bring the whole of a url to `part`, with as many requests as it takes while each brings something new."""
    furthest, failures, reason = part.stat().st_size if part.exists() else 0, 0, ""
    while failures < MAX_TRIES:
        if failures:
            time.sleep(RETRY_PAUSE * 2 ** (failures - 1))
        here = part.stat().st_size if part.exists() else 0
        if size is not None and here == size:
            return
        if size is not None and here > size:
            part.unlink()
            here = 0
        try:
            if _request_file(url, part, here, size, progress):
                return
            reason = "the connection was dropped"
        except HTTPError as error:
            if error.code != 416:  # there is nothing at that place of the file: it is another one
                raise _MirrorError(f"HTTP {error.code} {error.reason}") from None
            part.unlink(missing_ok=True)
            reason = "HTTP 416"
        except (URLError, HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise UserError(f"the disk is full at {part}; make room and fetch again: it goes on there") from None
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        now = part.stat().st_size if part.exists() else 0
        failures = 0 if now > furthest else failures + 1
        furthest = max(furthest, now)
    raise _MirrorError(reason)


def _request_file(url: str, part: Path, here: int, size: int | None, progress: Progress) -> bool:
    """One request, appended to `part` from `here` on. True when the file is whole."""
    headers = {"User-Agent": "vqtools", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as answer:
        here = _resume_offset(answer, here)
        length = answer.headers.get("Content-Length", "")
        total = here + int(length) if length.isdigit() else None
        if size is not None and total is not None and total != size:
            raise _MirrorError(f"it offers {total:,} bytes instead of {size:,}")
        if answer.headers.get_content_type() == "text/html":
            raise _MirrorError("it answers with a web page instead of the file")
        with open(part, "ab" if here else "wb") as out:
            here = _copy_body(answer, out, here, total if size is None else size, progress)
    return total is None or here == total


def _resume_offset(answer: HTTPResponse, asked: int) -> int:
    """Where the answer's bytes belong: 0 when the server sends the whole file, whatever it was asked for."""
    if answer.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if not match or int(match[1]) != asked:
        raise _MirrorError("it answers with another part of the file than it was asked for")
    return asked


def _copy_body(answer: HTTPResponse, out: IO[bytes], here: int, total: int | None, progress: Progress) -> int:
    progress(here, total)
    while chunk := answer.read(_CHUNK_BYTES):
        here += len(chunk)
        if total is not None and here > total:
            raise _MirrorError(f"it sends more than {total:,} bytes")
        out.write(chunk)
        progress(here, total)
    return here
