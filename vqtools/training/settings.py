"""What trainings may be told: fields, ranges and help, from which flags, forms and records are made."""

from __future__ import annotations

from typing import Literal

from vqtools.core.settings import Settings, option


class VQGANStageSettings(Settings):
    """What a VQGAN's training may choose."""

    steps: int = option(30_000, help="training steps", ge=1, quick=4)
    learning_rate: float = option(6e-4, help="Adam's step size at its highest", gt=0)
    warmup: int = option(300, help="steps over which the rates rise", unit="steps", group="advanced", ge=0)
    accumulate: int = option(
        1, help="parts in which a batch is worked through, where the whole does not fit the memory", group="advanced",
        ge=1,
    )  # fmt: skip
    clip_gradient: float = option(1.0, help="longest gradient; longer ones are shortened", group="advanced", gt=0)
    compile: bool = option(False, help="compile the networks: minutes at the start, faster steps", group="advanced")
    ema: float = option(
        0.998, help="decay of the averaged weights, which are the ones that are kept", group="advanced", ge=0, lt=1
    )
    squared_weight: float = option(
        0.0, help="weight of the squared pixel error beside the absolute one", group="losses", ge=0
    )
    perceptual_weight: float = option(0.5, help="weight of the perceptual distance", group="losses", ge=0)
    perceptual_pictures: int = option(
        8, help="pictures of a batch that the perceptual distance looks at", group="losses", ge=1
    )
    gan: Literal["hinge", "vanilla", "minimax"] = option(
        "hinge", group="discriminator",
        help="the adversarial loss: hinge (Lim 2017) stops pushing what is told apart already, vanilla (Goodfellow "
        "2014) never does; minimax is the game as written down, whose generator learns nothing where the "
        "discriminator is sure: for teaching",
    )  # fmt: skip
    disc_layers: int = option(
        2, help="strided layers of the discriminator: 2 judge patches of 34 pixels, 3 of 70 (Isola 2017)",
        group="discriminator", ge=1, le=4,
    )  # fmt: skip
    disc_start: int = option(15_000, help="step from which the discriminator counts", group="discriminator", ge=0)
    disc_weight: float = option(
        0.3, help="weight of the adversarial term, before the adaptive one (Esser 2021, 3.1); 0 for none",
        group="discriminator", ge=0,
    )  # fmt: skip
    disc_ramp: int = option(
        2_000, help="steps over which the adversarial term rises; the discriminator warms up for as many before",
        unit="steps", group="discriminator", ge=1,
    )  # fmt: skip
    adaptive_cap: float = option(
        10.0, help="highest adaptive weight of the adversarial term", group="discriminator", gt=0
    )
    lecam_weight: float = option(
        0.0, help="weight of LeCAM, which holds the discriminator back where pictures are few (Tseng 2021)",
        group="discriminator", ge=0,
    )  # fmt: skip
    diff_augment: bool = option(
        False, help="show the discriminator changed pictures only: for a few hundred pictures (Zhao 2020)",
        group="discriminator",
    )  # fmt: skip
    kmeans_batches: int = option(
        8, help="batches whose latents start the codebook by k-means (Zeghidour 2021), so that codes begin where the "
        "pictures are; 0 leaves it as it is", group="codebook", ge=0,
    )  # fmt: skip
    revive_below: float = option(
        0.3, help="average uses a step below which a code restarts at a latent (Zeghidour 2021); 0 for never",
        group="codebook", ge=0,
    )  # fmt: skip
    commitment: Literal["reference", "paper"] = option(
        "reference", group="codebook",
        help="which term of a gradient codebook's loss is weighed: the codebook's, as in the published code and "
        "models, or the encoder's, as in the paper (van den Oord 2017, equation 3); with averages only the encoder's "
        "is there",
    )  # fmt: skip
    commitment_weight: float = option(0.25, help="that weight, beta in the papers", group="codebook", ge=0)
    decoder_only: bool = option(False, help="train the decoder alone: every picture keeps its codes", group="codebook")
    seed: int = option(0, help="seed of every draw", ge=0)


class TrainVQGANSettings(VQGANStageSettings):
    """What `vqtools train-vqgan` may be told; `workshop.suggest` chooses what is left open by what the folder holds."""

    folder: str = option("pictures", help="a folder, a zip, or tar shards of pictures")
    name: str = option("my-vqgan", help="what the model is called afterwards, and the folder of the run")
    from_: str = option(
        "starter", help="the VQGAN to go on from, a name or a path; none starts a new one (see --network)"
    )
    size: int = option(96, help="side of the squares that are cut from the pictures", unit="pixels", ge=16, quick=32)
    batch_size: int = option(16, help="pictures a step", ge=1, quick=4)
    network: Literal["small", "medium", "large"] = option(
        "small", help="a new network's size: small for CPUs, medium for a free GPU, large as the public f16",
        group="network",
    )  # fmt: skip
    codebook_size: int = option(512, help="a new network's number of codes", group="network", ge=2, le=65536)
    metric: Literal["cosine", "euclidean"] = option(
        "cosine", help="how a new network's codes are compared: cosine keeps more of them in use (Yu 2022), euclidean "
        "is what the public models have (van den Oord 2017)", group="network",
    )  # fmt: skip
    quantizer: Literal["nearest", "gumbel"] = option(
        "nearest", help="how a new network chooses codes: the nearest one, or by a learned projection with noise that "
        "fades over the run (Jang 2017), as OpenAI's and the public f8 model", group="network",
    )  # fmt: skip
    codebook: Literal["averages", "gradient"] = option(
        "averages", group="codebook",
        help="how codes move: towards the mean of their latents, which is steadier (van den Oord 2017, A.1), or by "
        "gradient, as the public models' (Esser 2021)",
    )  # fmt: skip
    smallest_crop: float = option(
        0.6, help="smallest square that is cut, as a share of the short side; 1 for whole pictures", group="pictures",
        gt=0, le=1,
    )  # fmt: skip
    flip: bool = option(True, help="mirror every other picture", group="pictures")
    ground: str = option("white", help="colour behind transparent pictures: a name or #rrggbb", group="pictures")
    perceptual: Literal["auto", "lpips", "lite0"] = option(
        "auto", help="perceptual distance: LPIPS with VGG16 (528 MB, auto takes it where it is present), or the small "
        "network that ships", group="losses",
    )  # fmt: skip
    measure_every: int = option(
        250, help="steps between two measurements on held-out pictures", group="advanced", ge=1, quick=2
    )
    save_minutes: float = option(3.0, help="minutes between two saved states", group="advanced", ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="number format of the networks; auto takes the fastest that is safe here", group="advanced"
    )
    tensorboard: bool = option(False, help="write TensorBoard's event files too", group="advanced")


class TransformerStageSettings(Settings):
    """What a transformer's training may choose."""

    steps: int = option(10_000, help="training steps", ge=1, quick=4)
    learning_rate: float = option(1e-3, help="the step size at its highest: AdamW's; Muon's is ten times it", gt=0)
    optimiser: Literal["adamw", "muon"] = option(
        "adamw", group="advanced",
        help="AdamW (Loshchilov 2019), or Muon for the blocks' matrices (Jordan 2024): fewer steps, needs torch 2.9",
    )  # fmt: skip
    warmup: int = option(200, help="steps over which the rate rises", unit="steps", group="advanced", ge=0)
    weight_decay: float = option(0.05, help="pull of the matrices towards zero", group="advanced", ge=0)
    accumulate: int = option(
        1, help="parts in which a batch is worked through, where the whole does not fit the memory", group="advanced",
        ge=1,
    )  # fmt: skip
    clip_gradient: float = option(1.0, help="longest gradient; longer ones are shortened", group="advanced", gt=0)
    compile: bool = option(False, help="compile the network: minutes at the start, faster steps", group="advanced")
    ema: float = option(
        0.998, help="decay of the averaged weights, which are the ones that are kept", group="advanced", ge=0, lt=1
    )
    pkeep: float = option(
        1.0, help="share of the codes that are read as they are; the others are replaced by any, so that the "
        "transformer learns to go on from mistakes (Esser 2021)", group="advanced", gt=0, le=1,
    )  # fmt: skip
    drop_condition: float = option(
        0.1, help="share of the classes or captions that are withheld, which guidance needs (Ho 2022)", ge=0, le=1
    )
    seed: int = option(0, help="seed of every draw", ge=0)


class TrainTransformerSettings(TransformerStageSettings):
    """What `vqtools train-transformer` may be told; `workshop_transformer.suggest` chooses what is left open."""

    folder: str = option("pictures", help="a folder, a zip, or tar shards of pictures")
    name: str = option("my-transformer", help="what the model is called afterwards, and the folder of the run")
    vqgan: str = option("starter", help="name or path of the VQGAN whose codes are learned")
    condition: Literal["none", "class", "caption", "codes"] = option(
        "none",
        help="what is told beforehand: nothing, the folder that a picture lies in, its caption (a .txt or .json of its "
        "name), or the codes of another picture (see --others)",
    )  # fmt: skip
    holes: bool = option(
        True, help="also learn to fill holes and to grow a picture in every direction, from its known parts"
    )
    others: str = option(
        "", help="a second folder with a picture of the same name for each: depth, edges, a coarser one",
        group="pictures",
    )  # fmt: skip
    clip: str = option("starter", help="the CLIP that reads captions, a name or a folder", group="network")
    grid: int = option(
        12, help="side of the window in codes: what the transformer sees at once", group="network", ge=2, le=64, quick=4
    )
    batch_size: int = option(32, help="pictures a step", ge=1, quick=4)
    layers: int = option(6, help="blocks of the transformer", group="network", ge=1, quick=2)
    heads: int = option(4, help="attention heads of each block", group="network", ge=1)
    width: int = option(288, help="numbers a token, a multiple of the heads", group="network", ge=8, quick=64)
    dropout: float = option(0.1, help="share of the numbers that are withheld in training", group="network", ge=0, lt=1)
    rotary: bool = option(
        False, help="tell positions by turning (Su 2021), by rows and columns; more exact, a little slower",
        group="network",
    )  # fmt: skip
    views: int = option(
        8, help="squares that are cut from each picture, once and for all", group="pictures", ge=1, quick=2
    )
    smallest_crop: float = option(
        0.6, help="smallest square that is cut, as a share of the short side; 1 for whole pictures", group="pictures",
        gt=0, le=1,
    )  # fmt: skip
    flip: bool = option(True, help="mirror every other square", group="pictures")
    ground: str = option("white", help="colour behind transparent pictures: a name or #rrggbb", group="pictures")
    measure_every: int = option(
        100, help="steps between two measurements on held-out pictures", group="advanced", ge=1, quick=2
    )
    patience: int = option(
        6, help="measurements without a better one after which the training ends, before it learns the pictures by "
        "heart; 0 for never", group="advanced", ge=0,
    )  # fmt: skip
    save_minutes: float = option(3.0, help="minutes between two saved states", group="advanced", ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", help="number format of the network; auto takes the fastest that is safe here", group="advanced"
    )
    tensorboard: bool = option(False, help="write TensorBoard's event files too", group="advanced")
