"""Puts pictures, a VQGAN and a transformer's training together: what `train-transformer` and notebook 02 stand on.

Knows folders, models by name, and what suits how many pictures; nothing about how a step is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageColor
from torch import Tensor

from vqtools import networks
from vqtools.device import Machine, choose_machine
from vqtools.media import save_png, to_picture
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, CaptionEmbedding, GPTConfig
from vqtools.models.vqgan import VQGAN
from vqtools.networks import resolve_path
from vqtools.sampling.sampler import Sampler, cell_noise
from vqtools.settings import UserError, shorten
from vqtools.training.codes import CodeBatches, CropViews, encode_pictures
from vqtools.training.data import ImageDataset, PictureSource, find_captions, find_pictures, split_held_out
from vqtools.training.run import RunFolder
from vqtools.training.settings import TrainTransformerSettings
from vqtools.training.stage2 import CodeBatch, TransformerStage, batch_prefix, scale_residual_init
from vqtools.trainings import Trainer, begin_run
from vqtools.weights import files
from vqtools.weights.files import file_sha256, read_transformer
from vqtools.weights.registry import home_folder

TEXT_TOKENS = 2
CAPTION_WORDS = 12
PREVIEW_PICTURES = 4  # pictures that are drawn to be looked at


def suggest_transformer_settings(
    given: dict[str, Any], machine: Machine | None = None
) -> tuple[TrainTransformerSettings, list[str]]:
    """Settings with every field that was not given chosen by what the folder holds, and why, in sentences."""
    asked = TrainTransformerSettings.parse(given)
    machine = machine or choose_machine()
    sources = find_pictures(Path(asked.folder))
    count, gpu = len(split_held_out(len(sources), asked.seed)[0]), machine.device.type != "cpu"
    why = [f"{count} pictures to train on, {len(sources) - count} held out to measure by"]
    chosen: dict[str, Any] = {}
    if "condition" not in given:
        chosen["condition"], reason = _suggest_condition(asked, sources)
        why.append(reason)
    said = {**asked.model_dump(), **chosen}
    if said["condition"] in ("class", "codes"):
        chosen["holes"] = False
    elif said["holes"]:
        why.append("holes are learned too, so that pictures can be completed and grown in every direction")
    batch = min(64 if gpu else 32, max(1, count))
    chosen |= {"batch_size": batch, "views": 16 if count < 200 else 8 if count < 2000 else 4}
    if gpu:
        chosen |= {"grid": 16, "layers": 12, "heads": 8, "width": 512}
    elif count < 500:
        chosen |= {"layers": 4, "heads": 4, "width": 192}
    chosen |= {"dropout": 0.2 if count < 500 else 0.1 if count < 5000 else 0.0, "measure_every": 250 if gpu else 100}
    passes = 400 if count < 1000 else 100
    steps = max(400, min(40_000 if gpu else 4_000, passes * count // batch))
    chosen |= {"steps": steps, "warmup": min(200, steps // 10)}
    chosen = {k: v for k, v in chosen.items() if k not in given}
    settings = TrainTransformerSettings.parse({**asked.model_dump(), **chosen}).quick()
    why.append(f"{settings.layers} layers of {settings.width}, a window of {settings.grid}x{settings.grid} codes")
    why.append(
        f"at most {settings.steps} steps of {settings.batch_size} pictures; it ends before it knows them by heart"
    )
    return settings, why


def _suggest_condition(asked: TrainTransformerSettings, sources: Sequence[PictureSource]) -> tuple[str, str]:
    """What the folder has to tell beforehand, and why it was chosen."""
    if asked.others:
        return "codes", f"each picture is drawn by the one of its name in {asked.others}"
    captions = find_captions(Path(asked.folder), sources)
    if sum(map(bool, captions)) > len(captions) // 2:
        return "caption", "the pictures have captions, which are learned with them"
    names = class_names(sources)
    if 2 <= len(names) <= min(200, len(sources) // 4):
        return "class", f"the folders are classes: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
    return "none", "no captions and no folders: pictures are drawn from nothing"


def class_of(source: PictureSource) -> str:
    """The folder that a picture lies in, "" for one that lies in none."""
    return source.name.replace("\\", "/").rpartition("/")[0]


def class_names(sources: Sequence[PictureSource]) -> list[str]:
    """The classes of some pictures, where all of them have one."""
    names = {class_of(source) for source in sources}
    return [] if "" in names or len(names) < 2 else sorted(names)


class TransformerTrainer(Trainer[TransformerStage]):
    """A transformer's training with its folder, as a job: trains, measures, logs, saves, and draws to be looked at.

    The weights that are kept are the averaged ones as they were when the held-out pictures surprised them least.
    """

    key = "stage2"

    def __init__(
        self,
        settings: TrainTransformerSettings,
        stage2: TransformerStage,
        run: RunFolder,
        pictures: ImageDataset,
        vqgan: VQGAN,
        held: CodeBatches | None,
        about: dict[str, Any],
    ) -> None:
        super().__init__(settings, stage2, run)
        self.settings, self.stage2, self.pictures, self.vqgan, self.about = settings, stage2, pictures, vqgan, about
        self.held = held
        self.num_bad_measurements = 0  # measurements since the best one
        self._shown: tuple[int, Image.Image] | None = None

    def measure(self) -> dict[str, float]:
        """Held-out surprise in nats and bits a code, from nothing and, where holes are learned, in holes."""
        nats = self.stage2.measure(self.held.all()) if self.held else math.nan
        if self.held:
            self.measured = {"held-out nll": nats, "held-out bits": nats / math.log(2)}
            self.measured["held-out perplexity"] = math.exp(min(nats, 50.0))
            if self.settings.holes:
                self.measured["held-out nll in holes"] = self.stage2.measure(self.held.all(drawn_holes=True))
        record = {"training": self.settings.name, "step": self.position}
        save_png(self.run.folder / f"samples-{self.position:08d}.png", self.preview(), record, overwrite=True)
        better = not self.held or nats < self.best
        self.num_bad_measurements = 0 if better else self.num_bad_measurements + 1
        if better:
            self.best = nats if self.held else self.best
            self._write(self.run.folder / "best.safetensors")
        return self.measured

    def judge(self) -> None:
        patience = self.settings.patience
        if self.team.any_process(bool(patience) and self.num_bad_measurements >= patience):
            self.stage2.total = self.position

    @property
    def stopped_early(self) -> bool:
        return self.total < self.settings.steps

    def _write(self, path: Path) -> None:
        gpt = self.stage2.averaged
        about = self.about | {"made by": "vqtools train-transformer", "step": self.position, "measured": self.measured}
        files.save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **about)

    def export(self, path: Path) -> Path:
        """Write the best weights so far as a model."""
        best = self.run.folder / "best.safetensors"
        if best.is_file():
            gpt, header = read_transformer(best), files.read_header(best)
            files.save_model(path, "transformer", gpt.config.to_dict(), gpt.state_dict(), **header["about"])
        else:
            self._write(path)
        return path

    def preview(self) -> Image.Image:
        """What the averaged weights draw, always with the same noise; below it the held-out pictures they complete."""
        if self._shown is None or self._shown[0] != self.position:
            self._shown = self.position, self._draw()
        return self._shown[1]

    @torch.no_grad()
    def _draw(self) -> Image.Image:
        gpt, side = self.stage2.averaged, self.settings.grid
        batch = next(iter(self.held.all(most=PREVIEW_PICTURES))) if self.held else self.stage2.batch(0)
        batch = batch.apply(lambda tensor: tensor[:PREVIEW_PICTURES]).to(self.stage2.device)
        rows = [self._completed(gpt, batch, torch.zeros(side, side, dtype=torch.bool))]
        if self.settings.holes and self.held:
            known = torch.zeros(side, side, dtype=torch.bool)
            known[: side // 2] = True
            rows += [self._completed(gpt, batch, known), self._completed(gpt, batch, ~known)]
        if self.held:  # the pictures as their codes show them
            rows.append(batch.codes.view(-1, side, side))
        images = [self.vqgan.decode(row).float().clamp(-1, 1).cpu() for row in rows]
        return to_picture(torch.cat([torch.cat(list(row), 2) for row in images], 1))

    def _completed(self, gpt: GPT, batch: CodeBatch, known: Tensor) -> Tensor:
        """Grids (b, h, w) of which the known cells are the batch's and the others are drawn."""
        config, side = gpt.config, self.settings.grid
        codes, caption = batch.codes.view(-1, side, side), None
        if config.spatial:
            assert batch.condition is not None
            condition = batch.condition.view(-1, side, side)
            if config.mask_code >= 0:
                condition = torch.where(known.to(codes.device), codes, config.mask_code)
            caption = None if batch.caption is None else gpt.prefix(batch.caption)
        else:
            condition = batch_prefix(gpt, batch)
        noise = cell_noise(self.settings.seed, len(codes), config.num_codes)
        sampler = Sampler(
            gpt, side, side, condition, noise=noise, caption=caption, given=codes, known=known, top_p=0.92
        )
        while sampler.position < sampler.total:
            sampler.step()
        return sampler.codes

    def describe(self) -> str:
        """One line for people."""
        s = self.settings
        holes = " with holes" if s.holes else ""
        condition = {"none": "no condition"}.get(s.condition, s.condition)
        millions = sum(p.numel() for p in self.stage2.gpt.parameters()) / 1e6
        return (
            f"{millions:.1f} million weights, {condition}{holes}, {s.grid}x{s.grid} codes of {s.vqgan}, {s.steps} steps"
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"worse": self.num_bad_measurements, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_bad_measurements, self.stage2.total = state["worse"], state["total"]


def build_captioner(
    clip: CLIP, texts: Sequence[str], device: torch.device
) -> Callable[[Sequence[str]], CaptionEmbedding]:
    """A reader of these captions: each is read once, and kept."""
    unique = sorted({"", *texts})
    number = {text: i for i, text in enumerate(unique)}
    clip = clip.to(device)
    with torch.no_grad():
        parts = [unique[i : i + 256] for i in range(0, len(unique), 256)]
        whole = torch.cat([clip.embed_text(part).cpu() for part in parts])
        words = torch.cat([clip.embed_words(part, CAPTION_WORDS).cpu() for part in parts]).half()

    def read(texts: Sequence[str]) -> CaptionEmbedding:
        rows = [number[text] for text in texts]
        return CaptionEmbedding(whole[rows], words[rows].float(), torch.zeros(len(rows), dtype=torch.int64))

    return read


def train_transformer(
    settings: TrainTransformerSettings,
    *,
    folder: str | Path = ".",
    resume: bool = False,
    machine: Machine | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TransformerTrainer:
    """A training as a job, in ``folder``/NAME; with ``resume`` where the run of that name was.

    UserError where the folder lacks what the settings ask of it, or there is no such model, or a run of that name.
    """
    begun = begin_run(settings, folder=folder, resume=resume, machine=machine)
    s, team, machine = begun.settings, begun.team, begun.machine
    _check_settings(s)
    place = resolve_path("vqgan", s.vqgan)
    vqgan, sha256 = networks.load_vqgan(s.vqgan).to(machine.device), file_sha256(place)
    lesson = load_transformer_data(s, vqgan, sha256, machine.device, say)
    torch.manual_seed(s.seed)
    gpt = GPT(lesson.config)
    scale_residual_init(gpt)
    gpt = gpt.to(machine.device)
    precision = None if machine.precision == "fp32" else machine.dtype
    stage2 = TransformerStage(s, gpt, lesson.train, precision=precision, team=team)
    about = {"vqgan": sha256, "pictures": len(lesson.pictures), "condition": s.condition}
    if s.condition == "caption":
        about["clip"] = file_sha256(resolve_path("clip", s.clip))
    job = TransformerTrainer(s, stage2, begun.run, lesson.pictures, vqgan, lesson.held, about)
    job.begin(begun, f"vqgan: {s.vqgan}")
    return job


def _check_settings(s: TrainTransformerSettings) -> None:
    """UserError where the settings contradict each other."""
    if s.width % s.heads:
        raise UserError(
            f"width {s.width} is not a multiple of {s.heads} heads; take {max(1, s.width // s.heads) * s.heads}"
        )
    if s.rotary and s.width // s.heads % 4:
        raise UserError(f"rotary positions need heads of a multiple of 4 numbers, not {s.width // s.heads}")
    if s.holes and s.condition in ("class", "codes"):
        raise UserError(
            f"holes are learned with captions or without a condition, not with {s.condition}; say --no-holes"
        )
    if s.others and s.condition != "codes":
        raise UserError(f"others {s.others!r} are read with --condition codes only")
    if s.condition == "codes" and not s.others:
        raise UserError("condition codes needs --others: a second folder with a picture of the same name for each")
    if s.optimiser == "muon" and not hasattr(torch.optim, "Muon"):
        raise UserError(f"optimiser muon needs torch 2.9; here is {torch.__version__.split('+')[0]}: take adamw")


class TransformerData:
    """What is learned: the transformer's config, the batches to train on, and those that are held out."""

    def __init__(
        self, config: GPTConfig, train: CodeBatches, held: CodeBatches | None, pictures: ImageDataset
    ) -> None:  # fmt: skip
        self.config, self.train, self.held, self.pictures = config, train, held, pictures


def load_transformer_data(
    s: TrainTransformerSettings, vqgan: VQGAN, sha256: str, device: torch.device, say: Callable[[str], None]
) -> TransformerData:
    """Read the folder, encode what was not encoded before, and see what the pictures come with."""
    pictures = _open_pictures(s.folder, s, s.grid * vqgan.f)
    sources = pictures.sources
    train, held = split_held_out(len(pictures), s.seed)
    if len(train) < s.batch_size:
        raise UserError(
            f"{len(train)} pictures to train on are fewer than a batch of {s.batch_size}; add pictures, or lower the "
            "batch size"
        )
    labels, names, captions, reader = _load_conditions(s, sources, device)
    config = build_gpt_config(s, vqgan.config.codebook_size, names, _caption_fields(s))
    views = CropViews(s.views, s.grid * vqgan.f, s.smallest_crop, s.flip, s.seed)
    folder = home_folder() / "codes"
    others = _open_paired_pictures(s, pictures, s.grid * vqgan.f) if s.others else None

    def batches(numbers: list[int], cut: CropViews, size: int) -> CodeBatches:
        def told(share: float) -> None:
            say(f"reading pictures as codes: {100 * share:.0f} %")

        table = encode_pictures(pictures, numbers, cut, vqgan, sha256, folder, told)
        second = encode_pictures(others, list(table.numbers), cut, vqgan, sha256, folder, told) if others else None
        if others and second and len(second.numbers) < len(table.numbers):
            name, reason = next(iter(others.broken.items()))
            raise UserError(f"{s.others}: {name} can't be read ({reason})")
        return CodeBatches(
            table, config, min(size, len(table.numbers)) if numbers is held else size, seed=s.seed,
            labels=[labels[n] for n in table.numbers] if labels else (),
            captions=[captions[n] for n in table.numbers] if captions else (),
            captioner=reader, others=second.codes if second else None,
        )  # fmt: skip

    whole = CropViews(1, views.side, 1.0, False, s.seed)
    return TransformerData(
        config, batches(train, views, s.batch_size), batches(held, whole, 1) if held else None, pictures
    )


def _open_pictures(folder: str, s: TrainTransformerSettings, side: int) -> ImageDataset:
    try:
        ground = ImageColor.getrgb(s.ground)[:3]
    except ValueError:
        raise UserError(f"ground {shorten(s.ground)} is no colour; use a name or #rrggbb") from None
    return ImageDataset(find_pictures(Path(folder)), math.ceil(side / s.smallest_crop), ground)


def _open_paired_pictures(s: TrainTransformerSettings, pictures: ImageDataset, side: int) -> ImageDataset:
    """The second folder's pictures, in the order of the first's."""
    second = _open_pictures(s.others, s, side)
    known = {source.name.rpartition(".")[0]: source for source in second.sources}
    wanted = [source.name.rpartition(".")[0] for source in pictures.sources]
    if missing := [name for name in wanted if name not in known]:
        raise UserError(
            f"{s.others} has no picture called {missing[0]!r}"
            + (f", nor {len(missing) - 1} others" if missing[1:] else "")
            + f"; each picture of {s.folder} needs one of its name there"
        )
    second.sources = [known[name] for name in wanted]
    return second


def _load_conditions(
    s: TrainTransformerSettings, sources: Sequence[PictureSource], device: torch.device
) -> tuple[list[int], list[str], list[list[str]], Callable[[Sequence[str]], CaptionEmbedding] | None]:
    """Labels and their names, captions and their reader, as far as they are asked for."""
    if s.condition == "class":
        names = class_names(sources)
        if not names:
            raise UserError(
                f"condition class needs pictures in sub-folders, one a class; {s.folder} has "
                f"{len({class_of(one) for one in sources} - {''})} such"
            )
        return [names.index(class_of(source)) for source in sources], names, [], None
    if s.condition == "caption":
        captions = find_captions(Path(s.folder), sources)
        if not any(captions):
            raise UserError(
                f"condition caption needs captions; {s.folder} has none: put a .txt of its name beside each picture"
            )
        clip = networks.load_clip(s.clip)
        return [], [], captions, build_captioner(clip, [text for texts in captions for text in texts], device)
    return [], [], [], None


def _caption_fields(s: TrainTransformerSettings) -> dict[str, Any]:
    """What a config says of its captions."""
    if s.condition != "caption":
        return {}
    clip = networks.load_clip(s.clip)
    fields: dict[str, Any] = {"text_dim": clip.embed_text([""]).shape[1], "text_tokens": TEXT_TOKENS}
    if clip.supports_word_embeddings:
        fields |= {"words": CAPTION_WORDS, "word_dim": clip.embed_words([""], CAPTION_WORDS).shape[2]}
    return fields


def build_gpt_config(
    s: TrainTransformerSettings, codes: int, class_names: Sequence[str] = (), text: dict[str, Any] | None = None
) -> GPTConfig:
    """The shape of the transformer that the settings ask for, over ``codes`` codes."""
    shape: dict[str, Any] = {"layers": s.layers, "heads": s.heads, "width": s.width, "dropout": s.dropout}
    shape |= {"rotary": s.rotary} | (text or {})
    if s.holes:
        return GPTConfig.for_infilling(codes, s.grid, 1 if s.grid % 2 else 2, **shape)
    cells = s.grid * s.grid
    shape |= {"vocab_size": codes, "grid": s.grid}
    if s.condition == "codes":
        return GPTConfig(prefix_codes=cells, n_unmasked=cells, block_size=2 * cells, **shape)
    if s.condition == "class":
        names = tuple(class_names)
        return GPTConfig(classes=len(names), class_names=names, block_size=cells + 1, **shape)
    if text:
        return GPTConfig(block_size=cells + TEXT_TOKENS + text.get("words", 0), **shape)
    return GPTConfig(prefix_codes=1, block_size=cells + 1, **shape)


def seam_contrast(codes: Tensor, vqgan: VQGAN, place: int, *, lying: bool = False) -> tuple[float, float]:
    """How much neighbouring pixels differ across a border between codes, and across all other such borders.

    codes (b, h, w); place: the first column to the right of an upright border, or the first row below a lying one.
    Mean absolute differences of decoded pictures, in [0, 2]. Where nothing gives the border away the first is about
    the second.
    """
    from vqtools.models.decoding import decode_any_size

    with torch.no_grad():
        images = decode_any_size(vqgan, codes).float().clamp(-1, 1)
    images = images.mT if lying else images
    f, w = vqgan.f, images.shape[-1] // vqgan.f
    step = (images[..., 1:] - images[..., :-1]).abs().mean((0, 1, 2))
    borders = step[f - 1 :: f][: w - 1]
    others = torch.cat([borders[: place - 1], borders[place:]])
    return float(borders[place - 1]), float(others.mean())
