"""Downloads from mirrors that drop connections, send wrong lengths, redirect or fail, played by a local server."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vqtools.core.errors import UserError
from vqtools.weights import fetch
from vqtools.weights.fetch import find_downloadable
from vqtools.weights.load import load_vqgan, resolve_path
from vqtools.weights.model_file import load_open_clip, read_header
from vqtools.weights.registry import WeightsRecord

GOLDEN = Path(__file__).parents[1] / "golden"
BODY = bytes(range(256)) * 4000  # about a megabyte
SHA = hashlib.sha256(BODY).hexdigest()
HTML = b"<!DOCTYPE html><html>Please sign in</html>"


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves BODY in the manner that the first part of the path names."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, str]] = []  # noqa: RUF012  (path, Range)
    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        manner = self.path.strip("/").split("/")[0]
        requested = self.headers.get("Range", "")
        Mirror.requests.append((manner, requested))
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
        getattr(self, manner.replace("-", "_"))(start)

    def send(self, body: bytes, code: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have disconnected
            self.wfile.write(body)
        self.close_connection = length is not None

    def part(self, body: bytes, start: int, most: int | None = None) -> None:
        remaining = body[start:]
        cut = remaining if most is None else remaining[:most]
        length = len(remaining) if len(cut) < len(remaining) else None
        if start:
            self.send(cut, 206, length, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send(cut, 200, length)

    def good(self, start: int) -> None:
        self.part(BODY, start)

    def drops(self, start: int) -> None:
        self.part(BODY, start, 300_000)

    def drops_at_once(self, start: int) -> None:
        self.part(BODY, start, 0)

    def no_ranges(self, start: int) -> None:
        self.send(BODY)

    def restarts(self, start: int) -> None:  # no ranges, and never whole
        self.send(BODY[:400_000], length=len(BODY))

    def lies(self, start: int) -> None:  # another length than it has
        self.send(BODY + b"more")

    def endless(self, start: int) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(40):
                self.wfile.write(b"x" * 100_000)
        self.close_connection = True

    def wrong_part(self, start: int) -> None:
        self.send(BODY, 206, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")

    def other(self, start: int) -> None:  # the right size, another file
        self.part(BODY[::-1], start)

    def beyond(self, start: int) -> None:
        if start:
            self.send(b"", 416)
        else:
            self.send(BODY)

    def gone(self, start: int) -> None:
        self.send(b"no", 404)

    def page(self, start: int) -> None:
        self.send(HTML, Content_Type="text/html; charset=utf-8")

    def moved(self, start: int) -> None:
        self.send(b"", 302, Location="/good/x.ckpt")

    def moved_to_a_file(self, start: int) -> None:
        self.send(b"", 302, Location="file:///etc/hostname")

    def file(self, start: int) -> None:
        self.part(Mirror.files[self.path.split("/")[2]], start)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Returns the URL of a mirror that behaves as named."""
    monkeypatch.setattr(fetch, "RETRY_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.handle_error = lambda request, address: None  # the client may have disconnected
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    Mirror.requests.clear()
    Mirror.files.clear()
    yield lambda manner: f"http://127.0.0.1:{server.server_address[1]}/{manner}/x.ckpt"
    server.shutdown()
    server.server_close()


def get(urls: list[str], target: Path, sha256: str = SHA, size: int | None = len(BODY)) -> str:
    return fetch.download(urls, target, sha256=sha256, size=size)


@pytest.mark.parametrize("manner", ["good", "drops", "no_ranges", "moved"])
def test_a_file_is_downloaded_completely(at: Callable[[str], str], tmp_path: Path, manner: str) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch.download([at(manner)], tmp_path / "x", sha256=SHA, size=len(BODY), progress=lambda *now: seen.append(now))
    assert (tmp_path / "x").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
    if manner == "drops":  # continued where each connection ended
        assert [offset for _, offset in Mirror.requests] == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


@pytest.mark.parametrize("manner", ["good", "no_ranges", "beyond", "moved"])
def test_a_download_resumes_after_an_interruption(at: Callable[[str], str], tmp_path: Path, manner: str) -> None:
    (tmp_path / "x.part").write_bytes(BODY[:123_456])
    get([at(manner)], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert Mirror.requests[0][1] == Mirror.requests[-1][1] == "bytes=123456-" or manner == "beyond"


@pytest.mark.parametrize("left", [BODY, BODY + b"too much", b"rubbish" * 1000, b""])
def test_any_earlier_part_leads_to_the_correct_file(at: Callable[[str], str], tmp_path: Path, left: bytes) -> None:
    (tmp_path / "x.part").write_bytes(left)
    get([at("good")], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize(
    ("manner", "says"),
    [
        ("gone", "HTTP 404"), ("page", "42 bytes instead of 1,024,000"), ("lies", "1,024,004 bytes instead of"),
        ("endless", "sends more than 1,024,000 bytes"), ("restarts", "dropped"), ("drops_at_once", "dropped"),
        ("moved_to_a_file", "HTTP 302"), ("other", "sha256 is"),
    ],
)  # fmt: skip
def test_a_failing_mirror_is_named_and_the_next_one_used(
    at: Callable[[str], str], tmp_path: Path, manner: str, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        get([at(manner)], tmp_path / "x")
    assert says in str(caught.value) and "127.0.0.1" in str(caught.value)
    assert not (tmp_path / "x").exists()
    get([at(manner), at("good")], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    bad = [path.name for path in tmp_path.iterdir() if path.name != "x"]
    assert bad == (["x.bad"] if manner == "other" else [])  # the wrong file is put aside, never opened


def test_another_range_than_requested_is_not_appended(at: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(BODY[:1000])
    with pytest.raises(UserError, match="another part of the file"):
        get([at("wrong_part")], tmp_path / "x")
    assert (tmp_path / "x.part").read_bytes() == BODY[:1000]


def test_without_size_and_hash_a_web_page_is_refused_and_nothing_is_resumed(
    at: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="web page"):
        get([at("page")], tmp_path / "x", "", None)
    (tmp_path / "x.part").write_bytes(b"older")
    get([at("drops")], tmp_path / "x", "", None)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_host_that_does_not_answer_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RETRY_PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9: .*refused"):
        get(["http://127.0.0.1:9/x"], tmp_path / "x")


def test_an_existing_file_is_not_downloaded_again(at: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(BODY)
    get([at("good")], tmp_path / "x")
    assert not Mirror.requests
    (tmp_path / "x").write_bytes(BODY[::-1])
    get([at("good")], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY


# -- from a record to a network ----------------------------------------------------------------------------------------


@pytest.fixture
def record(at: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsRecord:
    """The golden VQModel as a public network in the user's own list."""
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("taming_vqmodel.ckpt", "taming_vqmodel.yaml"):
        Mirror.files[name] = (GOLDEN / name).read_bytes()
    write(at, tmp_path)
    return find_downloadable("tiny-f2")


def write(at: Callable[[str], str], folder: Path, *more: str, sha256: str = "") -> None:
    base = at("file").removesuffix("x.ckpt")
    ckpt, text = Mirror.files["taming_vqmodel.ckpt"], Mirror.files["taming_vqmodel.yaml"]
    lines = [
        "name: tiny-f2", "kind: vqgan", f"url: {at('gone')}", f"url: {base}taming_vqmodel.ckpt",
        f"bytes: {len(ckpt)}", f"sha256: {sha256 or hashlib.sha256(ckpt).hexdigest()}", "licence: MIT",
        "trained on: noise", f"config url: {base}taming_vqmodel.yaml",
        f"config sha256: {hashlib.sha256(text).hexdigest()}", *more,
    ]  # fmt: skip
    lines = [line for line in lines if not (sha256 == "none" and line.startswith("sha256"))]
    (folder / "home" / "weights.txt").write_text("\n".join(lines))


def test_fetch_converts_once_and_reports_it(record: WeightsRecord, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'tiny-f2' is not downloaded yet; .*vqtools weights fetch tiny-f2"):
        load_vqgan("tiny-f2")
    lines: list[str] = []
    path = fetch.fetch(record, say=lines.append)
    stored = load_file(GOLDEN / "taming_vqmodel_io.safetensors")
    model = load_vqgan("tiny-f2")
    assert torch.equal(model.encode(stored["image"]), stored["codes"]) and model.config.resolution == 32
    assert path == tmp_path / "home" / "tiny-f2.safetensors" == resolve_path("vqgan", "tiny-f2")
    assert any("127.0.0.1" in line for line in lines) and any("latent-diffusion VQModel" in line for line in lines)
    assert not list((tmp_path / "home" / "downloads").iterdir())
    about = read_header(path)["about"]
    assert about["sha256"] == record.sha256 and about["licence"] == "MIT" and about["name"] == "tiny-f2"
    requests = len(Mirror.requests)
    assert fetch.fetch(record) == path and len(Mirror.requests) == requests


def test_a_wrong_hash_is_never_opened(at: Callable[[str], str], record: WeightsRecord, tmp_path: Path) -> None:
    write(at, tmp_path, sha256="0" * 64)
    with pytest.raises(UserError, match=r"sha256 is .* instead of 000000000000.*\.bad"):
        fetch.fetch(find_downloadable("tiny-f2"))
    assert [path.name for path in (tmp_path / "home" / "downloads").glob("*.ckpt*")] == ["tiny-f2.ckpt.bad"]
    assert not list((tmp_path / "home").glob("*.safetensors"))


def test_a_download_that_cannot_be_converted_is_kept(
    at: Callable[[str], str], record: WeightsRecord, tmp_path: Path
) -> None:
    Mirror.files["taming_vqmodel.yaml"] += b"\n---\nanother document"
    write(at, tmp_path)
    with pytest.raises(UserError, match="cannot be read as a config"):
        fetch.fetch(find_downloadable("tiny-f2"))
    Mirror.files["taming_vqmodel.yaml"] = (GOLDEN / "taming_vqmodel.yaml").read_bytes()
    write(at, tmp_path)
    before = sum(manner == "file" for manner, _ in Mirror.requests)
    fetch.fetch(find_downloadable("tiny-f2"))
    assert sum(manner == "file" for manner, _ in Mirror.requests) == before + 1  # the config alone


def test_an_unverified_network_needs_agreement(at: Callable[[str], str], record: WeightsRecord, tmp_path: Path) -> None:
    for more, sha256, says in (
        ("unverified: nobody knows who made it", "", "nobody knows"),
        ("", "none", "there is no hash"),
    ):
        write(at, tmp_path, *([more] if more else []), sha256=sha256)
        with pytest.raises(UserError, match=f"is unverified: {says}.*--yes"):
            fetch.fetch(find_downloadable("tiny-f2"))
        assert not Mirror.requests
    assert fetch.fetch(find_downloadable("tiny-f2"), yes=True).is_file()


def test_missing_disk_space_is_an_error_before_any_request(
    record: WeightsRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match=r"needs 6\.13 MB until it is converted, but .* has 10 B left"):
        fetch.fetch(record)
    assert not Mirror.requests


def test_a_clip_and_a_perceptual_network_are_not_converted(
    at: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    for name, kind, place in (
        ("RN50/openai", "clip", tmp_path / "clip" / "RN50--openai.safetensors"),
        ("lpips", "perceptual", tmp_path / "lpips.ckpt"),
    ):
        record = WeightsRecord(name, kind, urls=(at("good"),), sha256=SHA, bytes=len(BODY))
        assert fetch.fetch(record) == place == record.path
        assert place.read_bytes() == BODY


def test_the_starter_models_are_never_downloaded() -> None:
    lines: list[str] = []
    assert fetch.fetch(find_downloadable("starter"), say=lines.append).exists() and "is already downloaded" in lines[0]
    with pytest.raises(UserError, match=r"weights\.txt has no 'vqgan-imagenet-f16-1634'; did you mean"):
        find_downloadable("vqgan-imagenet-f16-1634")


def test_open_clip_loads_the_downloaded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    tiny = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", tiny)
    published = {"url": "http://127.0.0.1:9/x", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "hf_hub": ""}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny", {"noise": published})
    torch.manual_seed(0)
    saved = open_clip.create_model("Tiny")
    place = WeightsRecord("Tiny/noise", "clip").path
    place.parent.mkdir()
    save_file(saved.state_dict(), place)
    clip = load_open_clip("Tiny/noise")
    assert torch.equal(clip.model.visual.conv1.weight, saved.visual.conv1.weight)
    assert clip.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3]) and clip.size == 32
