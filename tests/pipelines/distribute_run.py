"""What each process does in test_distribute: its part of three scenes and of five pictures."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from vqtools.animation import project
from vqtools.animation.animator import Animator
from vqtools.animation.project import Project
from vqtools.core.device import choose_machine
from vqtools.core.distributed import Distributed, init_distributed
from vqtools.media.png_record import save_png
from vqtools.painting.painter import Painter
from vqtools.painting.session import PaintSession
from vqtools.painting.settings import PaintSettings
from vqtools.pipelines import distribute
from vqtools.pipelines.distribute import distribute_cells, distribute_scenes
from vqtools.pipelines.grid import GridCell


def networks(activity: str) -> Any:
    path = Path(__file__).parents[1] / activity / "conftest.py"
    spec = importlib.util.spec_from_file_location(f"small_{activity}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    distributed = init_distributed(choose_machine("cpu"))
    written, save = [], save_png

    def counted(path: Any, *arguments: Any, **options: Any) -> Path:
        written.append(str(Path(path).relative_to(folder)))
        return save(path, *arguments, **options)

    for module in (distribute, project):  # where the two look the function up
        module.save_png = counted
    try:
        frames, pictures = scenes(folder, distributed), cells(folder, distributed)
    finally:
        for module in (distribute, project):
            module.save_png = save
    lines = [f"{distributed.size}", f"{len(frames or [])} {len(pictures or [])}", *written]
    (folder / f"process-{distributed.rank}.txt").write_text("\n".join(lines))
    distributed.close()


def scenes(folder: Path, distributed: Distributed) -> list[Path] | None:
    small = networks("animation")
    settings = small.settings_of(prompt="a red apple ^ a green leaf ^ the sea", frames=8, size=(16, 16), seed=3)

    def create(scene: Any, project: Project) -> Animator:
        return Animator(scene, small.First(scene), project, seed=scene.seed)

    return distribute_scenes(settings, folder / "film", distributed, create=create)


def cells(folder: Path, distributed: Distributed) -> list[Path] | None:
    small = networks("painting")
    base = PaintSettings(prompt="a red apple", size=(16, 16), iterations=2, cutouts=2)
    grid_cells = [GridCell("", str(i), base.model_copy(update={"seed": i})) for i in range(5)]

    def create_session(settings: PaintSettings) -> PaintSession:
        return PaintSession(Painter(settings, small.tiny_vqgan(), [small.TinyCLIP()], machine=small.CPU))

    return distribute_cells(grid_cells, folder, "grid", distributed, create_session=create_session)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
