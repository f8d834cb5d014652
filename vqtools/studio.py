"""Puts networks, sampler and painter together: what `import vqtools` offers.

Knows all rooms; finds networks by name.
"""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqtools import __version__, media
from vqtools.animation.animator import Animator
from vqtools.animation.forecast import Estimate, forecast
from vqtools.animation.octaves import Compose, OctaveZoom
from vqtools.animation.project import Project, film
from vqtools.animation.settings import AnimateSettings
from vqtools.animation.track import Track
from vqtools.device import Machine, choose
from vqtools.models.clip import CLIP
from vqtools.models.gpt import GPT, Caption, packed
from vqtools.models.vqgan import VQGAN
from vqtools.painting import memory, prompts, starts
from vqtools.painting.easel import Easel
from vqtools.painting.inputs import Inputs
from vqtools.painting.painter import Painter
from vqtools.painting.regions import Mask
from vqtools.painting.settings import PaintSettings, parse_area, parse_clips, parse_regions
from vqtools.painting.targets import check_region
from vqtools.sampling.sampler import Sampler, gumbel
from vqtools.settings import UserError, near
from vqtools.weights import convert, files, registry

__all__ = [
    "AnimateSettings", "Easel", "PaintSettings", "Painter", "Painting", "animate", "animation", "easel", "load_clip",
    "load_transformer", "load_vqgan", "paint", "painting",
]  # fmt: skip

# how the starter transformer draws: strength of classifier-free guidance, and the share of likely codes kept
GUIDANCE, TOP_P = 4.0, 0.85


def find(kind: registry.Kind, name: str) -> Path:
    """The file (a CLIP's folder) of a network: a path, a name of weights.txt, or a model in the models' folder.

    A path may lead to another program's checkpoint: it is converted once, and found converted from then on.
    """
    suffix = "" if kind == "clip" else ".safetensors"
    if Path(name).suffix or os.sep in name:
        if not Path(name).exists():
            raise UserError(f"{kind} {name!r} is not there; expected a file of a network, or a name")
        return convert.cached(Path(name), kind) if suffix else Path(name)
    listed = {record.name: record for record in registry.records() if record.kind == kind}
    known = {one.name: one.place for one in listed.values() if one.place.exists()}
    for path in sorted(registry.home().glob("*.safetensors" if suffix else "*/open_clip_config.json")):
        if not suffix or files.kind_of(path) == kind:
            known[path.stem if suffix else path.parent.name] = path if suffix else path.parent
    if name in known:
        return known[name]
    if name in listed:
        raise UserError(f"the {kind} {name!r} is known but not here; bring it with: vqtools weights fetch {name}")
    raise UserError(f"no {kind} is called {name!r}{near(name, known)}")


def load_vqgan(name: str = "starter") -> VQGAN:
    """A VQGAN by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return _vqgan(find("vqgan", name))


def load_transformer(name: str = "starter") -> GPT:
    """A transformer by name, path, or another program's checkpoint: in fp32, on the CPU, frozen."""
    return _transformer(find("transformer", name))


def load_clip(name: str = "starter") -> CLIP:
    """A CLIP: "starter", a folder in open_clip's form, or open_clip's NAME/TAG as "ViT-B-32-quickgelu/openai"."""
    return _public_clip(name) if "/" in name and not Path(name).exists() else _clip(find("clip", name))


_vqgan = lru_cache(maxsize=2)(files.load_vqgan)
_transformer = lru_cache(maxsize=2)(files.load_transformer)
_clip = lru_cache(maxsize=2)(files.load_clip_folder)
_public_clip = lru_cache(maxsize=2)(files.load_open_clip)


class Painting:
    """A picture from a prompt, as a job: grids drawn by the transformer, the CLIP's choice, then guidance.

    ``settings`` may be changed between steps, as a Painter's. ``machine`` and the settings' seed are what was
    chosen, also where the settings left it open. The first CLIP chooses; all of them guide, weighted. ``notes`` are for
    people.
    """

    def __init__(
        self,
        settings: PaintSettings,
        vqgan: VQGAN,
        clips: Mapping[CLIP, float],
        gpt: GPT | None,
        machine: Machine,
        models: Mapping[str, Any],
        inputs: Inputs | None = None,
    ) -> None:
        seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
        self._settings = settings.model_copy(update={"seed": seed})
        self.vqgan, self.gpt, self.machine, self.models = vqgan, gpt, machine, dict(models)
        self.clips, self.clip = dict(clips), next(iter(clips))
        self.inputs = inputs or Inputs()
        self.notes: list[str] = []
        self.plan: memory.Plan | None = None  # what the painting needs, from its first step of guidance on
        self._masks: dict[str, Mask] = {}  # until there is a painter to hold them
        self.sampler: Sampler | None = None
        self.painter: Painter | None = None
        for network in (vqgan, *clips, gpt):
            if network is not None:
                network.to(machine.device)
        for index, area in parse_regions(settings.regions).items():
            self.set_region(index, self._area(area))
        if settings.protect.strip():
            self.protect(self._area(parse_area(settings.protect)))
        if settings.init_image:
            self._begin(media.fit(self.inputs.picture(settings.init_image), settings.size))
        elif gpt is not None:
            self.sampler = self._sampler(gpt)
        else:
            self._begin(self._invented())

    @property
    def settings(self) -> PaintSettings:
        return self.painter.settings if self.painter else self._settings

    @settings.setter
    def settings(self, settings: PaintSettings) -> None:
        self._settings = settings
        if self.painter:
            self.painter.settings = settings

    def _area(self, area: Any) -> Any:
        """What settings say of an area, as :meth:`Mask.of` takes it."""
        if isinstance(area, str):
            return self.inputs.picture(area)
        width, height = self.settings.size
        return area[0] * width, area[1] * height, area[2] * width, area[3] * height

    def _invented(self) -> Image.Image | None:
        """Noise or a gradient to begin with; None for random codes."""
        make = {"noise": starts.noise, "gradient": starts.gradient}.get(self._settings.init)
        if make is None:
            return None
        assert self._settings.seed is not None
        return media.to_picture(make(torch.Generator().manual_seed(self._settings.seed), *self._settings.size))

    def set_region(self, index: int, mask: Any) -> None:
        """As a Painter's; before there is one, from its first step on."""
        check_region(self.settings.prompt, index)
        self._mask(f"prompt {index}", mask)

    def protect(self, mask: Any) -> None:
        """As a Painter's; before there is one, from its first step on."""
        self._mask("protect", mask)
        if self.painter:
            self.painter.protect(self._masks.get("protect"))

    def repaint(self, mask: Any, fresh: bool = True) -> None:
        """As a Painter's; UserError where there is nothing to paint over yet."""
        if self.painter is None:
            raise UserError("the transformer is still drawing; paint over the picture once it is there")
        self.painter.repaint(mask, fresh)
        self._masks = self.painter.masks

    def _mask(self, key: str, mask: Any) -> None:
        if mask is None:
            self._masks.pop(key, None)
        else:
            self._masks[key] = mask if isinstance(mask, Mask) else Mask.of(mask, self.settings.size)

    @property
    def position(self) -> int:
        """Steps done: rows of the grids first, then iterations of guidance."""
        return self._rows + (self.painter.position if self.painter else 0)

    @property
    def total(self) -> int:
        return (self.sampler.window.height if self.sampler else 0) + self.settings.iterations

    @property
    def _rows(self) -> int:
        """Rows of the grids that are drawn."""
        return self.sampler.position // self.sampler.window.width if self.sampler else 0

    def step(self) -> dict[str, float]:
        """One row of the transformer's grids, or one iteration of guidance."""
        if self.painter is None:
            assert self.sampler is not None
            cells = [self.sampler.step() for _ in range(self.sampler.window.width)]
            if self.sampler.position == self.sampler.total:
                self._begin(self.chosen())
            return {name: sum(cell[name] for cell in cells) / len(cells) for name in cells[0]}
        return self.painter.step()

    @torch.no_grad()
    def drafts(self) -> Tensor:
        """The transformer's grids, decoded as far as they are drawn: (grids, 3, H, W) in [-1, 1]."""
        assert self.sampler is not None
        rows = max(self._rows, 1)
        return self.vqgan.decode(self.sampler.codes[:, :rows]).clamp(-1, 1)

    @torch.no_grad()
    def chosen(self) -> Image.Image:
        """The draft that the CLIP likes best for the prompts, at the size of the picture."""
        drafts = self.drafts()
        views = F.interpolate(drafts.add(1).div(2), size=(self.clip.size,) * 2, mode="bicubic", antialias=True)
        asked = prompts.parse(self.settings.prompt)
        weights = torch.tensor([prompt.weight for prompt in asked], device=drafts.device)
        texts = self.clip.embed_text([prompt.text for prompt in asked])
        views = views.clamp(0, 1)
        seen = self.clip.embed_image(views) + self.clip.embed_image(views.flip(3))  # the mirror steadies the judge
        scores = seen @ texts.T @ weights
        return extend(media.to_picture(drafts[int(scores.argmax())]), self.settings.size)

    def _begin(self, start: Image.Image | None) -> None:
        """From a picture (or from random codes) to guidance."""
        wanted = self._settings
        self.plan = memory.plan(wanted, self.vqgan, list(self.clips), self.machine)
        self._settings = memory.apply(wanted, self.plan)
        if self._settings != wanted or not self.plan.fits:
            self.notes.append(self.plan.describe())
        latents = None
        if start is not None:
            latents = media.to_tensor(start).to(self.machine.device)
            with torch.no_grad():
                if self._settings.drawer == "pixels":
                    latents = latents.add(1).div(2)
                else:
                    latents = self.vqgan.latents_of(self.vqgan.encode(latents))
        self._make_painter(latents)

    def _make_painter(self, start: Tensor | None) -> Painter:
        self.painter = Painter(
            self._settings, self.vqgan, list(self.clips), clip_weights=list(self.clips.values()),
            start=start, load=self.inputs.picture, machine=self.machine,
        )  # fmt: skip
        self.painter.notes, self.painter.masks = self.notes, self._masks
        return self.painter

    def _sampler(self, gpt: GPT) -> Sampler:
        settings, config = self._settings, gpt.config
        asked = [prompt for prompt in prompts.parse(settings.prompt) if prompt.weight > 0]
        text = asked[0].text if asked else ""
        n = settings.grids
        # every style has its turn: the CLIP chooses among them
        styles = torch.arange(n) % len(config.styles)
        caption = Caption(
            self.clip.embed_text([text]).expand(n, -1),
            self.clip.embed_words([text], config.words).expand(n, -1, -1),
            styles.to(self.machine.device),
        )
        with torch.no_grad():
            prefix = gpt.prefix(caption)
        assert settings.seed is not None
        generator = torch.Generator().manual_seed(settings.seed)
        uniform = torch.rand(config.grid, config.grid, n, config.vocab_size, generator=generator)
        return Sampler(
            packed(gpt), config.grid, config.grid, prefix, noise=lambda row, column: gumbel(uniform[row, column]),
            unconditional=gpt.no_caption.expand(n, -1, -1), guidance=GUIDANCE, top_p=TOP_P,
        )  # fmt: skip

    def preview(self) -> Image.Image:
        """The picture as it stands; while the transformer draws, its grids side by side."""
        if self.painter:
            return self.painter.preview()
        return contact_sheet([media.to_picture(draft) for draft in self.drafts()])

    def picture(self) -> Image.Image:
        """The picture as it stands, also where it was stopped before guidance began."""
        return self.painter.preview() if self.painter else self.chosen()

    def record(self) -> dict[str, Any]:
        """All that the same picture can be made from again, for the PNG."""
        return {
            "format": 1,
            "vqtools": __version__,
            "torch": torch.__version__,
            "settings": self.settings.model_dump(mode="json"),
            "precision": self.machine.precision,
            "device": self.machine.device.type,
            "threads": self.machine.threads,
            "models": self.models,
            **self.inputs.record(),
            "position": self.position,
            "total": self.total,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state_dict() if self.sampler else None,
            "painter": self.painter.state_dict() if self.painter else None,
            "masks": {key: mask.png.hex() for key, mask in self._masks.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of a painting with the same settings."""
        if self.sampler and state["sampler"]:
            self.sampler.load_state_dict(state["sampler"])
        if state["painter"]:
            painter = self.painter or self._make_painter(state["painter"]["start"])
            painter.load_state_dict(state["painter"])
            self._masks = painter.masks
        elif self.sampler:
            self._settings, self.painter = self.settings, None
            self._masks = {key: Mask.read(bytes.fromhex(png)) for key, png in state["masks"].items()}


def painting(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    kind: Callable[..., Painting] = Painting,
) -> Painting:
    """A painting ready to be stepped, its networks found by the settings' names.

    threads: of the CPU; a picture made again to the same bits needs the number it was made with.
    record: of the picture that the settings came from, if they did: the small inputs that it holds are used, and files
        that only it names are opened if they are ``trusted``, else a UserError. kind: the class.
    """
    inputs = Inputs(record, trusted=trusted)
    for network in ("vqgan", "clip", "transformer"):
        inputs.check_name(network, getattr(settings, network))
    machine = choose(precision=settings.precision, threads=threads)
    paths: dict[str, Path] = {"vqgan": find("vqgan", settings.vqgan)}
    vqgan = _vqgan(paths["vqgan"])
    judges = parse_clips(settings.clip)
    clips = {load_clip(name): weight for name, weight in judges.items()}
    check_size(settings.size, 1 if settings.drawer == "pixels" else vqgan.f)
    local = [name for name in judges if "/" not in name or Path(name).exists()]
    if next(iter(judges)) in local:
        paths["clip"] = find("clip", next(iter(judges)))
    if settings.init_image and settings.init != "auto":
        raise UserError(f"init {settings.init!r} and an init_image: choose one of them to begin with")
    gpt = None
    if not settings.init_image and settings.init in ("auto", "sample") and settings.drawer == "vqgan" and (
        settings.transformer not in ("", "none")
    ):  # fmt: skip
        path = find("transformer", settings.transformer)
        problem = misfit(path, paths)
        if not problem:
            paths["transformer"], gpt = path, _transformer(path)
        elif "transformer" in settings.model_fields_set:
            raise UserError(problem)
        else:  # the default belongs to the starters alone; without it the picture starts from random codes
            settings = settings.model_copy(update={"transformer": "none"})
    models: dict[str, Any] = {kind: {"name": getattr(settings, kind), "sha256": files.sha256(path)}
                              for kind, path in paths.items()}  # fmt: skip
    if len(judges) > 1 or not local:
        models["clip"] = {"name": settings.clip, **{name: files.sha256(find("clip", name)) for name in local}}
    return kind(settings, vqgan, clips, gpt, machine, models, inputs)


def easel(
    settings: PaintSettings,
    *,
    threads: int | None = None,
    record: Mapping[str, Any] | None = None,
    trusted: bool = False,
    replay: bool = False,
) -> Easel:
    """A painting that can be steered; see :func:`painting`. replay: follow the record's journal while it forms.

    A replay begins with the record's ``began``; with another size in it, the same picture is made larger.
    """
    job = painting(settings, threads=threads, record=record, trusted=trusted)
    return Easel(job, record=record if replay else None)


def misfit(transformer: Path, others: Mapping[str, Path]) -> str:
    """Why a transformer can't draw for this VQGAN and CLIP, or "": it knows the files it was trained with."""
    trained = files.read_header(transformer)["about"]
    for kind in ("vqgan", "clip"):
        if kind not in others or files.sha256(others[kind]) != trained.get(kind):
            return f"the transformer {transformer.stem!r} was trained with another {kind}; choose its own, or none"
    return ""


def check_size(size: tuple[int, int], f: int) -> None:
    """UserError unless both sides are multiples of f; it says the nearest."""
    for side, value in zip(("width", "height"), size, strict=True):
        if value % f or value < f:
            raise UserError(f"{side} {value} is not a multiple of {f}; the nearest is {max(f, round(value / f) * f)}")


def extend(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture enlarged to stand whole in a size, its edges drawn out to fill the rest."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = (round(picture.width * scale), round(picture.height * scale))
    image = media.to_tensor(picture.resize(inner, Image.Resampling.BICUBIC))
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    pads = (left, size[0] - inner[0] - left, top, size[1] - inner[1] - top)
    return media.to_picture(F.pad(image, pads, mode="replicate"))


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size side by side, as square as it gets."""
    columns = int(len(pictures) ** 0.5 + 0.999)
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def paint(prompt: str, **fields: Any) -> Image.Image:
    """A picture from a prompt; every field of PaintSettings is a keyword.

    The record that makes the same picture again is in ``picture.info["vqtools"]``; ``media.save_png`` keeps it.
    """
    job = painting(PaintSettings.parse({"prompt": prompt, **fields}).quick())
    while job.position < job.total:
        job.step()
    picture = job.picture()
    picture.info["vqtools"] = job.record()
    return picture


class Octave(Painting):
    """A painting whose start goes through a function first: what an octave zoom's pictures are."""

    def __init__(self, *arguments: Any, compose: Compose) -> None:
        self.compose = compose
        super().__init__(*arguments)

    def _begin(self, start: Image.Image | None) -> None:
        super()._begin(self.compose(start))


def animation(settings: AnimateSettings, project: Project, *, threads: int | None = None) -> Animator | OctaveZoom:
    """An animation ready to be stepped, its networks found by the settings' names; a folder with frames goes on.

    threads: of the CPU; the same bits again need the number they were made with.
    """
    seed = secrets.randbelow(2**32) if settings.seed is None else settings.seed
    settings = settings.model_copy(update={"seed": seed})
    if settings.drawer == "pixels":
        raise UserError("drawer 'pixels' is for single pictures; animate with 'vqgan'")
    track = Track(settings, seed)
    first = painting(settings.model_copy(update={"prompt": track.prompt(0)}), threads=threads)
    project.record = {
        **{name: value for name, value in first.record().items() if name not in ("position", "total")},
        "settings": settings.model_dump(mode="json"),
    }
    project.save()
    if not settings.octave_zoom:
        return Animator(settings, first, project, seed=seed, track=track)

    def begin(prompt: str, seed: int, compose: Compose) -> Painting:
        wish = settings.model_copy(update={"prompt": prompt, "seed": seed})
        return painting(wish, threads=threads, kind=functools.partial(Octave, compose=compose))

    return OctaveZoom(settings, begin, project, seed=seed, track=track)


def estimate(job: Animator | OctaveZoom) -> Estimate:
    """What an animation will take, from a few steps of a painting that is thrown away."""
    settings = job.settings
    vqgan, clip = load_vqgan(settings.vqgan), load_clip(next(iter(parse_clips(settings.clip))))
    trial = settings.model_copy(update={"prompt": job.track.prompt(0), "seed": 0})
    return forecast(
        job, Painter(trial, vqgan, [clip.to(choose().device)], machine=choose(precision=settings.precision))
    )


def animate(prompt: str, *, out: str | Path | None = None, **fields: Any) -> Path:
    """Frames and a video from a prompt; every field of AnimateSettings is a keyword. Returns the folder."""
    settings = AnimateSettings.parse({"prompt": prompt, **fields}).quick()
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": secrets.randbelow(2**32)})
    stem = media.file_stem(settings.prompt, settings.seed or 0)
    project = Project.create(out or stem, {"settings": settings.model_dump(mode="json")})
    job = animation(settings, project)
    while job.position < job.total:
        job.step()
    film(project, settings)
    return project.folder
