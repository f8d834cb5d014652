"""What one of several processes does in test_sharing: its share of three scenes and of five pictures."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from vqtools import media, sharing
from vqtools.animation.animator import Animator
from vqtools.animation.project import Project
from vqtools.device import choose
from vqtools.painting.easel import Easel
from vqtools.painting.painter import Painter
from vqtools.painting.settings import PaintSettings
from vqtools.sheets import Cell
from vqtools.training.team import joined


def networks(activity: str) -> Any:
    path = Path(__file__).parent / activity / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"small_{activity}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    team = joined(lambda: choose("cpu"))
    small = networks("animation")
    made = []
    save = media.save_png

    def counted(path: Any, *arguments: Any, **options: Any) -> Path:
        made.append(str(Path(path).relative_to(folder)))
        return save(path, *arguments, **options)

    media.save_png = counted
    settings = small.settings_of(prompt="a red apple ^ a green leaf ^ the sea", frames=8, size=(16, 16), seed=3)

    def make(scene: Any, project: Project) -> Animator:
        return Animator(scene, small.First(scene), project, seed=scene.seed)

    frames = sharing.share_scenes(settings, folder / "film", team, make=make)
    wish = PaintSettings(prompt="a red apple", size=(16, 16), iterations=2, cutouts=2)
    cells = [Cell("", str(i), wish.model_copy(update={"seed": i})) for i in range(5)]
    paint = networks("painting")

    def easel(settings: PaintSettings) -> Easel:
        return Easel(Painter(settings, paint.tiny_vqgan(), [paint.TinyCLIP()], machine=paint.CPU))

    pictures = sharing.share_cells(cells, folder, "grid", team, easel=easel)
    lines = [f"{team.size}", f"{len(frames or [])} {len(pictures or [])}", *made]
    (folder / f"process-{os.environ.get('RANK', '0')}.txt").write_text("\n".join(lines))
    team.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
