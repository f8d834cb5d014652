"""Make the starter models: ``python -m recipes.starter --data FOLDER``.

Trainings one after another, each saved every few minutes and resumed where it was, then the export into
``vqtools/weights/starter``. The pictures' sources and licences stand in that folder's ATTRIBUTION.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes import clip, large, text, transformer, vqgan
from recipes.pictures import read
from vqtools.core.device import choose_machine
from vqtools.core.state_file import load_state, save_state
from vqtools.models.gpt import GPT
from vqtools.models.vqgan import VQGAN
from vqtools.weights.model_file import STARTER, file_sha256, quantize_int8, read_transformer, read_vqgan, save_model

STEPS = {
    "vqgan": 2_200, "decoder": 1_150, "text": 4_000, "clip": 1_200, "transformer": 4_800, "further": 1_400,
    "large": 3_000,
    "wide": 1_500,
}  # fmt: skip
VARIANTS = 24  # of every icon, as codes: with six of them the transformer learned these by heart


def train(job: Any, state: Path, finish: Callable[[], Any], *, minutes: float = 3, say: Callable[[str], None]) -> None:
    """Step a job to its end from where its state was saved; ``finish`` writes what comes of it, each time."""
    if state.exists():
        job.load_state_dict(load_state(state))
        say(f"resumed at step {job.position}")
    saved = began = time.monotonic()
    first = job.position
    while job.position < job.total:
        report = job.step()
        now = time.monotonic()
        if job.position % 25 == 0:
            pace = (now - began) / (job.position - first)
            numbers = ", ".join(f"{k} {v:.3f}" for k, v in report.items())
            say(f"{job.position}/{job.total}, {pace:.2f} s a step: {numbers}")
        if now - saved > 60 * minutes or job.position == job.total:
            save_state(state, job.state_dict())
            finish()
            saved = now


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}


def same(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether a file holds just these tensors already."""
    if not path.exists():
        return False
    there = load_file(path)
    return there.keys() == tensors.keys() and all(torch.equal(there[k], tensors[k]) for k in there)


class Starter:
    """The stages over one folder of data and one of checkpoints."""

    def __init__(self, data: Path, folder: Path, seed: int, steps: dict[str, int]) -> None:
        self.data, self.folder, self.seed, self.steps = data, folder, seed, steps
        folder.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()

    def say(self, line: str) -> None:
        print(f"[{(time.monotonic() - self.began) / 60:6.1f} min] {line}", flush=True)

    def vqgan(self) -> None:
        precision = torch.bfloat16 if choose_machine().precision == "bf16" else None
        job = vqgan.training(self.data, self.seed, self.steps["vqgan"], precision)

        def finish() -> None:
            keep = {k: v for k, v in job.ema.state_dict().items() if k.split(".")[-1] not in
                    ("cluster_size", "embed_sum")}  # fmt: skip
            save_model(self.folder / "vqgan.safetensors", "vqgan", vqgan.SHIPPED.to_dict(), keep)

        train(job, self.folder / "vqgan.state", finish, say=self.say)

    def decoder(self) -> None:
        precision = torch.bfloat16 if choose_machine().precision == "bf16" else None
        drawer = read_vqgan(self.folder / "vqgan.safetensors").requires_grad_(True)
        job = vqgan.decoder_training(self.data, drawer, self.seed, self.steps["decoder"], precision)

        def finish() -> None:
            path = self.folder / "vqgan-tuned.safetensors"
            save_model(path, "vqgan", vqgan.SHIPPED.to_dict(), job.ema.state_dict())

        train(job, self.folder / "decoder.state", finish, say=self.say)

    def text(self) -> None:
        held_out = sorted({p.name for p in read(self.data, "val-*.tar.gz")})
        text.train(read(self.data), held_out, self.folder, seed=self.seed, steps=self.steps["text"], log=self.say)

    def clip(self) -> None:
        tower = clip.TextTower(self.folder)
        job = clip.ClipTraining(read(self.data), tower, seed=self.seed, steps=self.steps["clip"])
        held_out = read(self.data, "val-*.tar.gz")

        def finish() -> None:
            kept = {k: v.contiguous() for k, v in job.ema.state_dict().items()}
            save_file(kept, self.folder / "clip.safetensors")
            self.say("recall among held-out names @1 {:.3f} @5 {:.3f}".format(*clip.recall(job.ema, tower, held_out)))

        train(job, self.folder / "clip.state", finish, say=self.say)

    def head(self) -> None:
        """The CLIP's head, steadied by a regression."""
        text, tower, pictures = clip.TextTower(self.folder), clip.PictureTower(), read(self.data)
        tower.load_state_dict(load_file(self.folder / "clip.safetensors"))
        tower = clip.steadied(tower, pictures, text, self.seed)
        kept = {k: v.contiguous() for k, v in tower.state_dict().items()}
        save_file(kept, self.folder / "clip-steadied.safetensors")
        found = clip.recall(tower, text, read(self.data, "val-*.tar.gz"))
        self.say("recall among held-out names @1 {:.3f} @5 {:.3f}".format(*found))

    def textures(self) -> None:
        """Textures that fool the CLIP, for the judge on trial."""
        text, tower = clip.TextTower(self.folder), clip.PictureTower().eval()
        tower.load_state_dict(load_file(self.folder / "clip-steadied.safetensors"))
        drawer = read_vqgan(self.folder / "vqgan-tuned.safetensors")
        names = sorted({p.name for p in transformer.things(read(self.data)) if transformer.common(p)})
        chosen = random.Random(f"{self.seed} textures").sample(names, min(400, len(names)))
        made = clip.textures(tower, text, drawer, chosen, self.seed)
        save_state(self.folder / "textures.state", {"images": made, "texts": chosen})
        self.say(f"{len(chosen)} textures")

    def unpack(self) -> None:
        """Where the states of earlier trainings are gone: the shipped models as where the next ones begin."""
        for name in ("vqgan", "transformer", "large"):
            shutil.copy(STARTER / f"{name}.safetensors", self.folder)
        shutil.copy(STARTER / "vqgan.safetensors", self.folder / "vqgan-tuned.safetensors")
        clip.unpack(STARTER / "clip", self.folder)

    def transformer(self) -> None:
        self.icons("transformer")

    def further(self) -> None:
        """The transformer trained on from its weights, with what people ask for most of the time."""
        weights = read_transformer(self.folder / "transformer.safetensors").state_dict()
        self.icons("further", weights)

    def icons(self, stage: str, begin: dict[str, Tensor] | None = None) -> None:
        drawer = read_vqgan(self.folder / "vqgan.safetensors")
        things = transformer.things(read(self.data))
        codes = transformer.Codes(things, drawer, VARIANTS, self.seed, self.folder / "codes.state")
        held = [p for p in read(self.data, "val-*.tar.gz") if p.source in transformer.ICONS]
        held_codes = transformer.Codes(held, drawer, 1, self.seed)
        self.say(f"{len(codes.rows)} grids of codes")
        job = transformer.TransformerTraining(
            codes, clip.TextTower(self.folder), seed=self.seed, steps=self.steps[stage], begin=begin
        )

        def finish() -> None:
            config, tensors = transformer.CONFIG.to_dict(), job.ema.state_dict()
            save_model(self.folder / "transformer.safetensors", "transformer", config, tensors)
            self.say(f"held-out {job.loss_on(held_codes):.3f} nats a code")

        train(job, self.folder / f"{stage}.state", finish, say=self.say)

    def large(self) -> None:
        self.scenes("large", large.grown(read_transformer(self.folder / "transformer.safetensors")), 1e-3)

    def wide(self) -> None:
        """The transformer of large pictures trained on from its weights."""
        self.scenes("wide", read_transformer(self.folder / "large.safetensors"), 5e-4)

    def scenes(self, stage: str, gpt: GPT, rate: float) -> None:
        drawer = read_vqgan(self.folder / "vqgan.safetensors")
        rng = random.Random(f"{self.seed} large")
        squares = large.Squares(large.scenes(read(self.data)), drawer, rng, self.folder / "squares.state")
        held = large.Squares(large.scenes(read(self.data, "val-*.tar.gz")), drawer, rng)
        self.say(f"{len(squares.codes)} windows to train on, {len(held.codes)} held out")
        tower = clip.TextTower(self.folder)
        job, measure = large.training(squares, held, tower, gpt, seed=self.seed, steps=self.steps[stage], rate=rate)

        def finish() -> None:
            save_model(self.folder / "large.safetensors", "transformer", large.CONFIG.to_dict(), job.ema.state_dict())
            self.say("held-out " + ", ".join(f"{k} {v:.3f} nats a code" for k, v in measure().items()))

        train(job, self.folder / f"{stage}.state", finish, say=self.say)

    def export(self) -> None:
        """Round to fp16, put the CLIP into open_clip's form, and write all of it where the package looks."""
        out = STARTER
        out.mkdir(parents=True, exist_ok=True)
        about = {"made by": "python -m recipes.starter", "seed": self.seed, "steps": self.steps}
        drawer: VQGAN = read_vqgan(self.folder / "vqgan-tuned.safetensors")
        config = drawer.config.to_dict()
        drawn = half(drawer.state_dict())
        if not same(out / "vqgan.safetensors", drawn):  # a new header alone would be a new file in the history
            save_model(out / "vqgan.safetensors", "vqgan", config, drawn, **about)
        features = half(vqgan.perceptual().state_dict())
        if not same(out / "perceptual.safetensors", features):
            save_model(out / "perceptual.safetensors", "perceptual", {}, features)
        clip.export(self.folder, out / "clip")
        shutil.copy(self.folder / "tokenizer.json", out / "clip" / "tokenizer.json")
        gpt = read_transformer(self.folder / "transformer.safetensors")
        styles = tuple("" if style in transformer.UNDRAWN else style for style in gpt.config.styles)
        gpt.config = replace(gpt.config, styles=styles)
        about |= {"vqgan": file_sha256(out / "vqgan.safetensors"), "clip": file_sha256(out / "clip")}
        save_model(
            out / "transformer.safetensors",
            "transformer",
            gpt.config.to_dict(),
            quantize_int8(gpt.state_dict()),
            **about,
        )
        if (scenes := self.folder / "large.safetensors").exists():
            gpt = read_transformer(scenes)
            tensors = quantize_int8(gpt.state_dict())
            save_model(out / "large.safetensors", "transformer", gpt.config.to_dict(), tensors, **about)
        total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        self.say(f"exported {json.dumps({f.name: f.stat().st_size for f in sorted(out.rglob('*.safetensors'))})}")
        self.say(f"{total / 1e6:.1f} MB in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards train-*.tar.gz and val-*.tar.gz")
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="where states are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves torch's choice")
    stages = ["vqgan", "decoder", "text", "clip", "head", "transformer", "further", "large", "wide", "export"]
    parser.add_argument("--only", choices=[*stages, "unpack", "textures"], help="one stage instead of all")
    for stage, count in STEPS.items():
        parser.add_argument(f"--{stage}-steps", type=int, default=count)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    steps = {stage: getattr(options, f"{stage}_steps") for stage in STEPS}
    starter = Starter(options.data, options.folder, options.seed, steps)
    for stage in [options.only] if options.only else stages:
        starter.say(stage)
        getattr(starter, stage)()


if __name__ == "__main__":
    main()
