"""Downloads of networks: resumed after an interruption, from several mirrors, checked before they are opened.

Knows URLs, sizes and hashes; nothing about the formats of networks, which `convert` knows. No file is opened before its
size and SHA-256 match the record; a file that does not match is renamed to ``*.bad`` and never opened.
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

Progress = Callable[[int, int | None], None]  # bytes received, total bytes or None if unknown

TIMEOUT = 30.0  # seconds without data
MAX_TRIES = 3  # consecutive requests without new data before the next mirror
RETRY_PAUSE = 1.0  # seconds before the second request, doubled for each further one
_CHUNK_BYTES = 1 << 20


class _MirrorError(Exception):
    """The reason why a mirror cannot be used."""


def find_downloadable(name: str) -> WeightsRecord:
    """Return the record of a name, of any kind, preferably one with a URL. Raises UserError if there is none."""
    records = all_records()
    matches = [record for record in records if record.name == name]
    if not matches:
        raise UserError(f"weights.txt has no {shorten(name)}{did_you_mean(name, {record.name for record in records})}")
    return next((record for record in matches if record.urls), matches[0])


def fetch(record: WeightsRecord, *, yes: bool = False, say: Callable[[str], None] | None = None) -> Path:
    """Download, check and convert a network, unless its file exists. Returns the path of the file.

    yes: agree to an unverified record, which is a UserError otherwise.
    say: called with each line of a report.

    Raises UserError also if no mirror has the file, or if the disk is full.
    """
    say = say or _ignore
    if record.path.exists():
        say(f"{record.name} is already downloaded: {record.path}")
        return record.path
    if not record.urls:
        raise UserError(f"{record.name} is part of vqtools, but {record.path} is missing; install vqtools again")
    if record.unverified_reason and not yes:
        raise UserError(
            f"{record.name} is unverified: {record.unverified_reason}; to download it anyway, pass --yes (yes=True)"
        )
    folder = _downloads_folder(record)
    stem = record.name.replace("/", "--")
    target, config = folder / (stem + url_suffix(record.urls[0])), _fetch_config(record, folder, stem, say)
    with tqdm(total=record.bytes, unit="B", unit_scale=True, desc=record.name, disable=None) as bar:

        def progress(received: int, total: int | None) -> None:
            bar.total = total
            bar.update(received - bar.n)

        origin = download(record.urls, target, sha256=record.sha256, size=record.bytes, progress=progress)
    checked = "its SHA-256 is correct" if record.sha256 else "there is no hash to check it"
    say(f"downloaded {format_bytes(target.stat().st_size)} from {origin}; {checked}")
    return _convert_download(record, target, config, say)


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str = "",
    size: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Download a file to ``target`` from the first mirror that has it. Returns the host, or "an earlier download".

    The data is appended to TARGET.part, also by a later call, and the file is renamed when its size and SHA-256 are
    correct. Without a sha256 every call starts from the beginning, because nothing proves that two parts belong to the
    same file. Raises UserError if no mirror has the file.
    """
    progress = progress or _ignore
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
                problem = _file_problem(part, sha256, size)
            except _MirrorError as error:
                reasons.append(f"{host}: {error}")
                break
            if not problem:
                os.replace(part, target)
                return host
            bad = target.with_name(target.name + ".bad")
            os.replace(part, bad)
            reasons.append(f"{host}: {problem}, kept as {bad}")
            if not resumed:  # if it was, the earlier part may be wrong: try the same mirror once more
                break
    raise UserError(f"{target.name} could not be downloaded: {'; '.join(reasons)}")


def _fetch_config(record: WeightsRecord, folder: Path, stem: str, say: Callable[[str], None]) -> Path | None:
    """Download the config of the file. For a VQGAN it is optional."""
    if not record.config_urls:
        return None
    config = folder / (stem + url_suffix(record.config_urls[0]))
    try:
        download(record.config_urls, config, sha256=record.config_sha256)
    except UserError as error:
        if record.kind != "vqgan":
            raise
        say(f"continuing without its config: {error}")
        return None
    return config


def _downloads_folder(record: WeightsRecord) -> Path:
    """Return the folder of downloads. Raises UserError unless it has space for the file and its conversion."""
    folder = home_folder() / "downloads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder} cannot be used ({error.strerror}); set VQTOOLS_HOME to another folder") from None
    required = 2 * (record.bytes or 0)
    if required > free:
        raise UserError(
            f"{record.name} needs {format_bytes(required)} until it is converted, but {folder} has "
            f"{format_bytes(free)} left; free some space, or set VQTOOLS_HOME to another folder"
        )
    return folder


def _convert_download(record: WeightsRecord, target: Path, config: Path | None, say: Callable[[str], None]) -> Path:
    """Convert a checked download to our format; a CLIP or a perceptual network keeps its own."""
    path = record.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if record.kind in ("clip", "perceptual"):
        os.replace(target, path)
        say(f"kept as {path}")
        return path
    from vqtools.weights.convert import convert, paths_by_name

    about = {"name": record.name, "licence": record.licence, "trained on": record.trained_on}
    output_path = paths_by_name(path.parent, path.stem)
    conversion = convert(target, output_path, kind=record.kind, config=config, about=about)
    for note in conversion.notes:
        say(note)
    for kind, file in conversion.files.items():
        say(f"converted from {conversion.family}: {kind} in {file}")
    for downloaded in (target, config):
        if downloaded is not None:
            downloaded.unlink(missing_ok=True)
    say("the download was deleted; from now on the converted file is used")
    return path


def _file_problem(path: Path, sha256: str, size: int | None) -> str:
    """Return how a file differs from its expected size or hash, or ""."""
    actual_size = path.stat().st_size
    if size is not None and actual_size != size:
        return f"the file has {actual_size:,} bytes instead of {size:,}"
    if sha256:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            return f"the file's sha256 is {digest[:12]}… instead of {sha256[:12]}…"
    return ""


def _download_with_retries(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Download a URL to ``part``, with further requests as long as each brings new data. Raises _MirrorError."""
    most_received, failures, reason = _current_size(part), 0, ""
    while failures < MAX_TRIES:
        if failures:
            time.sleep(RETRY_PAUSE * 2 ** (failures - 1))
        received = _current_size(part)
        if size is not None and received == size:
            return
        if size is not None and received > size:
            part.unlink()
            received = 0
        try:
            if _request_file(url, part, received, size, progress):
                return
            reason = "the connection was dropped"
        except HTTPError as error:
            if error.code != 416:  # 416: the range lies outside the file, so the part belongs to another one
                raise _MirrorError(f"HTTP {error.code} {error.reason}") from None
            part.unlink(missing_ok=True)
            reason = "HTTP 416"
        except (URLError, HTTPException, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise UserError(
                    f"the disk is full at {part}; free some space and fetch again: the download continues"
                ) from None
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        received = _current_size(part)
        failures = 0 if received > most_received else failures + 1
        most_received = max(most_received, received)
    raise _MirrorError(reason)


def _current_size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _request_file(url: str, part: Path, received: int, size: int | None, progress: Progress) -> bool:
    """Request a file from the byte ``received`` on, and append it to ``part``. Returns whether it is complete."""
    headers = {"User-Agent": "vqtools", "Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as answer:
        received = _resume_offset(answer, received)
        length = answer.headers.get("Content-Length", "")
        total = received + int(length) if length.isdigit() else None
        if size is not None and total is not None and total != size:
            raise _MirrorError(f"its file has {total:,} bytes instead of {size:,}")
        if answer.headers.get_content_type() == "text/html":
            raise _MirrorError("it sends a web page instead of the file")
        with open(part, "ab" if received else "wb") as out:
            received = _copy_body(answer, out, received, total if size is None else size, progress)
    return total is None or received == total


def _resume_offset(answer: HTTPResponse, requested: int) -> int:
    """Return the offset of the answer's bytes in the file: 0 if the server ignores ranges and sends the whole file."""
    if answer.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if not match or int(match[1]) != requested:
        raise _MirrorError("it sends another part of the file than requested")
    return requested


def _copy_body(answer: HTTPResponse, out: IO[bytes], received: int, total: int | None, progress: Progress) -> int:
    """Append the answer's bytes to a file of ``received`` bytes. Returns its new size."""
    progress(received, total)
    while chunk := answer.read(_CHUNK_BYTES):
        received += len(chunk)
        if total is not None and received > total:
            raise _MirrorError(f"it sends more than {total:,} bytes")
        out.write(chunk)
        progress(received, total)
    return received


def _ignore(*_: object) -> None:
    """Accept any report and do nothing."""
