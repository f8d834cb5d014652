"""weights.txt, read into records."""

from __future__ import annotations

from pathlib import Path

import pytest

from vqtools.settings import UserError
from vqtools.weights import registry

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


def test_records_are_read() -> None:
    first, second = registry.parse(GOOD, HERE)
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
        ("name: a\nkind: gan\npath: x", "line 2: kind 'gan' is none of vqgan, clip, transformer"),
        ("\n\nname: a\npath: x", "line 3: this record has no kind"),
        ("kind: clip\npath: x", "line 1: this record has no name"),
        ("name: a\nkind: clip", "line 1: a has neither a path nor a url"),
        ("name: a\nname: b", "line 2: name stands twice"),
        ("name: a/b", "line 1: name 'a/b'"),
        ("name: a\nkind: clip\nurl: u\nsha256: 12", "line 4: sha256 '12' is not 64"),
        ("name: a\nkind: clip\nurl: u\nbytes: -1", "line 4: bytes '-1' is not a whole number"),
        ("name: a\nkind: clip\npath: x\n\nname: a\nkind: clip\npath: y", "line 5: a second record of the clip a"),
    ],
)
def test_errors_name_the_line(text: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        registry.parse(text, HERE)
    assert says in str(caught.value)


def test_the_shipped_list_has_the_starters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    assert {(one.kind, one.name) for one in registry.records()} >= {
        (kind, "starter") for kind in ("vqgan", "clip", "transformer")
    }
    for one in registry.records():
        assert one.licence and one.trained_on and one.source, one.name


def test_people_add_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOOLS_HOME", str(tmp_path))
    (tmp_path / "weights.txt").write_text(GOOD, encoding="utf-8")
    assert registry.find("clip", "my-clip").file == tmp_path / "clips" / "mine"
    with pytest.raises(UserError, match="there is no vqgan named 'my-vqgn'; did you mean 'my-vqgan'"):
        registry.find("vqgan", "my-vqgn")
    (tmp_path / "weights.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        registry.records()
