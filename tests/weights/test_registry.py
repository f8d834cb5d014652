"""weights.txt, parsed to records."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqtools.core.errors import UserError
from vqtools.weights.registry import all_records, find_record, format_bytes, parse_list, url_suffix

HERE = Path("somewhere")
GOOD = """# a remark

name: my-vqgan
kind: vqgan
url: https://a.example/x.ckpt
url: https://b.example/x.ckpt
sha256: {hash}
bytes: 12
licence: MIT: really
trained on: flowers
config url: https://a.example/x.yaml
config sha256: {hash}


# another
name: my-clip
kind: clip
path: clips/mine
""".format(hash="0123456789abcdef" * 4)


def test_records_are_parsed() -> None:
    first, second = parse_list(GOOD, HERE)
    assert first.urls == ("https://a.example/x.ckpt", "https://b.example/x.ckpt")
    assert (first.bytes, first.licence, first.trained_on, first.file) == (12, "MIT: really", "flowers", None)
    assert first.config_sha256 == first.sha256
    assert second.file == HERE / "clips" / "mine"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nkind: vqgan\nlicense: MIT\npath: x", "line 3: there is no key 'license'; did you mean 'licence'?"),
        ("name: a\nkind vqgan", "line 2: 'kind vqgan' is not `key: value`"),
        ("name: a\nkind:", "line 2"),
        ("name: a\nkind: gan\npath: x", "line 2: kind 'gan': must be one of vqgan, clip, transformer, perceptual"),
        ("\n\nname: a\npath: x", "line 3: this record has no kind"),
        ("kind: clip\npath: x", "line 1: this record has no name"),
        ("name: a\nkind: clip", "line 1: a has neither a path nor a url"),
        ("name: a\nname: b", "line 2: name occurs twice"),
        ("name: a/b\nkind: vqgan\npath: x", "line 1: name 'a/b'"),
        ("name: a/b/c", "line 1: name 'a/b/c'"),
        ("name: a\nkind: clip\nurl: https://u\nsha256: 12", "line 4: sha256 '12' is not 64"),
        ("name: a\nkind: clip\nurl: https://u\nbytes: -1", "line 4: bytes '-1' is not a whole number"),
        ("name: a\nkind: clip\nurl: file:///etc/passwd", "line 3: url 'file:///etc/passwd' is invalid"),
        ("name: a\nkind: clip\npath: x\n\nname: a\nkind: clip\npath: y", "line 5: a second record of the clip a"),
    ],
)
def test_an_invalid_record_is_an_error_that_names_the_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_list(text, HERE)
    assert says in str(caught.value)


def test_the_shipped_list_contains_the_starter_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    assert {(one.kind, one.name) for one in all_records()} >= {
        *((kind, "starter") for kind in ("vqgan", "clip", "transformer")), ("transformer", "starter-large"),
    }  # fmt: skip


def test_every_public_network_is_verified_or_needs_agreement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    public = [one for one in all_records() if one.urls]
    for one in public:
        assert one.trained_on and one.source, one.name
        assert (one.licence and one.sha256) or one.unverified, one.name
        assert all(url.startswith("https://") for url in (*one.urls, *one.config_urls)), one.name
        assert not one.path.exists() and one.path.is_relative_to(tmp_path)
        if one.kind == "transformer":
            assert one.config_urls, one.name  # its heads stand nowhere else
    assert {one.name for one in public if not one.unverified_reason} >= {
        "vqgan-imagenet-f16-16384", "vqgan-imagenet-f16-1024", "vqgan-coco-first-stage", "vqgan-gumbel-f8-8192",
        "llamagen-vq-ds16-c2i", "amused-256-vqvae", "sflckr-transformer", "faceshq-transformer",
        "ViT-B-32-quickgelu/openai", "vgg16-imagenet",
    }  # fmt: skip
    assert {one.name for one in public if one.unverified_reason} >= {
        "vqgan-wikiart-f16-16384",
        "ldm-vq-f4",
        "coco-transformer",
    }
    assert len({one.path for one in public}) == len(public)


def test_the_listed_clips_exist_in_open_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import open_clip

    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    clips = [one for one in all_records() if one.kind == "clip" and one.urls]
    assert len(clips) >= 7
    for one in clips:
        architecture, _, tag = one.name.partition("/")
        assert (architecture, tag) in open_clip.list_pretrained()
        # the same activation as the weights were trained with: open_clip only warns
        assert open_clip.get_model_config(architecture).get("quick_gelu", False) == (tag == "openai"), one.name


def test_an_unverified_network_states_the_reason(tmp_path: Path) -> None:
    def doubt(*lines: str) -> str:
        (one,) = parse_list("\n".join(("name: a", "kind: vqgan", *lines)), tmp_path)
        return one.unverified_reason

    assert doubt("path: a.safetensors") == "" == doubt("url: https://a.example", f"sha256: {'0' * 64}")
    assert doubt("url: https://a.example") == "there is no hash to check the file"
    assert doubt("url: https://a.example", "unverified: odd") == "odd"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x/last.ckpt", ".ckpt"), ("https://a.example/f/140747ba/?dl=1", ".ckpt"),
        ("https://a.example/d/a75/files/?p=%2Fconfigs%2Fmodel.yaml&dl=1", ".yaml"),
        ("https://a.example/vq-f4.zip", ".zip"), ("https://a.example/v0.1/vgg.pth", ".pth"),
        ("https://a.example/model.safetensors?download=true", ".safetensors"),
    ],
)  # fmt: skip
def test_the_suffix_of_a_url(url: str, expected: str) -> None:
    assert url_suffix(url) == expected


def test_numbers_of_bytes_have_units_and_three_digits() -> None:
    assert [format_bytes(n) for n in (None, 0, 7289, 957_954_257, 980_092_370, 4_263_525_412)] == [
        "?", "0 B", "7.29 kB", "958 MB", "980 MB", "4.26 GB",
    ]  # fmt: skip


def test_unlisted_models_are_found_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import subprocess
    import sys

    import torch

    from vqtools.weights.model_file import save_model

    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    save_model(tmp_path / "my-roses.safetensors", "vqgan", {}, {"a": torch.zeros(1)})
    for name, content in (("b", b""), ("c", b"\xff" * 99), ("d", (20).to_bytes(8, "little") + b"[" * 20)):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    program = (
        "import sys\nfrom vqtools.weights import registry\n"
        "print([(one.name, one.kind) for one in registry.unlisted_models()], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[('my-roses', 'vqgan')] False\n"


def test_the_users_list_extends_the_shipped_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    (tmp_path / "weights.txt").write_text(GOOD, encoding="utf-8")
    assert find_record("clip", "my-clip").file == tmp_path / "clips" / "mine"
    with pytest.raises(UserError, match="there is no vqgan named 'my-vqgn'; did you mean 'my-vqgan'"):
        find_record("vqgan", "my-vqgn")
    (tmp_path / "weights.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        all_records()
