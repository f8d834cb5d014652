"""Settings of the trainings: fields, ranges and help, from which flags, forms and records are made.

Imports no network.
"""

from __future__ import annotations

from typing import Literal

from vqtools.core.settings import Settings, option


class VQGANStageSettings(Settings):
    """Settings of one VQGAN training loop: steps, losses, discriminator and codebook."""

    steps: int = option(30_000, help="training steps", ge=1, quick=4)
    learning_rate: float = option(6e-4, help="peak learning rate of Adam", gt=0)
    warmup: int = option(300, help="steps over which the learning rate rises", unit="steps", group="advanced", ge=0)
    accumulate: int = option(
        1,
        help="gradient accumulation: parts in which a batch is processed when it does not fit in memory",
        group="advanced",
        ge=1,
    )
    clip_gradient: float = option(
        1.0, help="largest gradient norm; longer gradients are clipped", group="advanced", gt=0
    )
    compile: bool = option(False, help="use torch.compile: minutes at the start, faster steps", group="advanced")
    ema: float = option(
        0.998,
        help="EMA decay of the weights; the averaged weights are saved as the model",
        group="advanced",
        ge=0,
        lt=1,
    )
    squared_weight: float = option(
        0.0, help="weight of the squared pixel error, in addition to the absolute one", group="losses", ge=0
    )
    perceptual_weight: float = option(0.5, help="weight of the perceptual loss", group="losses", ge=0)
    perceptual_pictures: int = option(
        8, help="pictures per batch for which the perceptual loss is computed", group="losses", ge=1
    )
    gan: Literal["hinge", "vanilla", "minimax"] = option(
        "hinge",
        group="discriminator",
        help="adversarial loss: hinge (Lim 2017), vanilla (non-saturating, Goodfellow 2014), or "
        "minimax, whose generator gradient vanishes when the discriminator is sure (for "
        "teaching)",
    )
    disc_layers: int = option(
        2,
        help="number of strided convolutions in the PatchGAN discriminator (Isola 2017): 2 give a "
        "receptive field of 34 × 34 pixels, 3 give 70 × 70",
        group="discriminator",
        ge=1,
        le=4,
    )
    disc_start: int = option(15_000, help="step at which the adversarial loss starts", group="discriminator", ge=0)
    disc_weight: float = option(
        0.3,
        help="weight of the adversarial loss, before the adaptive weight (Esser 2021, section 3.1); 0 disables it",
        group="discriminator",
        ge=0,
    )
    disc_ramp: int = option(
        2_000,
        help="warm-up: the discriminator is first trained alone for this many steps, then the "
        "adversarial weight rises over as many more",
        unit="steps",
        group="discriminator",
        ge=1,
    )
    adaptive_cap: float = option(10.0, help="upper limit of the adaptive weight", group="discriminator", gt=0)
    lecam_weight: float = option(
        0.0,
        help="weight of the LeCam regularisation of the discriminator, for small data sets (Tseng 2021)",
        group="discriminator",
        ge=0,
    )
    diff_augment: bool = option(
        False,
        help="differentiable augmentation of the discriminator's inputs, for a few hundred pictures (Zhao 2020)",
        group="discriminator",
    )
    kmeans_batches: int = option(
        8,
        help="batches used to initialise the codebook by k-means (Zeghidour 2021); 0 leaves it as it is",
        group="codebook",
        ge=0,
    )
    revive_below: float = option(
        0.3,
        help="average uses per step below which a code is replaced by a random latent (Zeghidour 2021); 0 for never",
        group="codebook",
        ge=0,
    )
    commitment: Literal["reference", "paper"] = option(
        "reference",
        group="codebook",
        help="which term of the loss of a gradient-trained codebook the weight multiplies: the "
        "codebook term, as in the published code and models, or the encoder term, as in the "
        "paper (van den Oord 2017, equation 3); an EMA codebook has only the encoder term",
    )
    commitment_weight: float = option(
        0.25,
        help="weight beta (van den Oord 2017, equation 3) of the term that the setting commitment names",
        group="codebook",
        ge=0,
    )
    decoder_only: bool = option(False, help="train only the decoder: every picture keeps its codes", group="codebook")
    seed: int = option(0, help="random seed", ge=0)


class TrainVQGANSettings(VQGANStageSettings):
    """Settings of `vqtools train-vqgan`; :mod:`vqtools.pipelines.vqgan_advice` chooses those that are not given."""

    folder: str = option("pictures", help="a folder, a zip file, or tar shards of pictures")
    name: str = option("my-vqgan", help="name of the model and of the run's folder")
    from_: str = option("starter", help="VQGAN to fine-tune, a name or a path; none trains a new one (see --network)")
    size: int = option(96, help="side of the square crops", unit="pixels", ge=16, quick=32)
    batch_size: int = option(16, help="pictures per step", ge=1, quick=4)
    network: Literal["small", "medium", "large"] = option(
        "small",
        help="size of a new network: small for CPUs, medium for a free GPU, large like the public f16 model",
        group="network",
    )
    codebook_size: int = option(512, help="number of codes of a new network", group="network", ge=2, le=65536)
    metric: Literal["cosine", "euclidean"] = option(
        "cosine",
        help="distance between latents and codes in a new network: cosine keeps more codes in use "
        "(Yu 2022), euclidean as in the public models (van den Oord 2017)",
        group="network",
    )
    quantizer: Literal["nearest", "gumbel"] = option(
        "nearest",
        help="how a new network chooses codes: the nearest one, or Gumbel-softmax with a falling "
        "temperature (Jang 2017), as in OpenAI's and the public f8 model",
        group="network",
    )
    codebook: Literal["averages", "gradient"] = option(
        "averages",
        group="codebook",
        help="how codes are updated: averages (EMA of their latents, more stable; van den Oord "
        "2017, A.1), or gradient, as in the public models (Esser 2021)",
    )
    smallest_crop: float = option(
        0.6,
        help="smallest crop as a fraction of the short side; 1 for whole pictures",
        group="pictures",
        gt=0,
        le=1,
    )
    flip: bool = option(True, help="flip pictures horizontally at random", group="pictures")
    ground: str = option(
        "white", help="background colour for transparent pictures: a name or #rrggbb", group="pictures"
    )
    perceptual: Literal["auto", "lpips", "lite0"] = option(
        "auto",
        help="network of the perceptual loss: lpips with VGG16 (528 MB; auto uses it if it is "
        "downloaded), or the small network that ships",
        group="losses",
    )
    measure_every: int = option(
        250, help="steps between two evaluations on held-out pictures", group="advanced", ge=1, quick=2
    )
    save_minutes: float = option(3.0, help="minutes between two saved states", group="advanced", ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        help="number format of the networks; auto chooses the faster one that is safe on this machine",
        group="advanced",
    )
    tensorboard: bool = option(False, help="also write TensorBoard event files", group="advanced")


class TransformerStageSettings(Settings):
    """Settings of one transformer training loop: steps, optimiser and regularisation."""

    steps: int = option(10_000, help="training steps", ge=1, quick=4)
    learning_rate: float = option(1e-3, help="peak learning rate of AdamW; Muon uses ten times it", gt=0)
    optimiser: Literal["adamw", "muon"] = option(
        "adamw",
        group="advanced",
        help="adamw (Loshchilov 2019), or muon: Muon for the weight matrices of the transformer "
        "blocks and AdamW for the rest (Jordan 2024), which converges in fewer steps and "
        "needs torch 2.9",
    )
    warmup: int = option(200, help="steps over which the learning rate rises", unit="steps", group="advanced", ge=0)
    weight_decay: float = option(
        0.05,
        help="weight decay, for weight matrices only: not for biases, norms and embeddings",
        group="advanced",
        ge=0,
    )
    accumulate: int = option(
        1,
        help="gradient accumulation: parts in which a batch is processed when it does not fit in memory",
        group="advanced",
        ge=1,
    )
    clip_gradient: float = option(
        1.0, help="largest gradient norm; longer gradients are clipped", group="advanced", gt=0
    )
    compile: bool = option(False, help="use torch.compile: minutes at the start, faster steps", group="advanced")
    ema: float = option(
        0.998,
        help="EMA decay of the weights; the averaged weights are saved as the model",
        group="advanced",
        ge=0,
        lt=1,
    )
    pkeep: float = option(
        1.0,
        help="fraction of the input codes that are kept; the others are replaced by random ones, "
        "so that the transformer learns to recover from errors (Esser 2021)",
        group="advanced",
        gt=0,
        le=1,
    )
    drop_condition: float = option(
        0.1,
        help="fraction of classes or captions that are dropped in training, as classifier-free "
        "guidance needs (Ho 2022)",
        ge=0,
        le=1,
    )
    seed: int = option(0, help="random seed", ge=0)


class TrainTransformerSettings(TransformerStageSettings):
    """Settings of `vqtools train-transformer`; :mod:`vqtools.pipelines.transformer_advice` chooses those not given."""

    folder: str = option("pictures", help="a folder, a zip file, or tar shards of pictures")
    name: str = option("my-transformer", help="name of the model and of the run's folder")
    vqgan: str = option("starter", help="name or path of the VQGAN whose codes are modelled")
    condition: Literal["none", "class", "caption", "codes"] = option(
        "none",
        help="condition: none, class (the picture's sub-folder), caption (a .txt or .json of the "
        "same name), or codes of another picture (see --others)",
    )
    holes: bool = option(True, help="also learn to fill holes and to extend a picture in every direction")
    others: str = option(
        "",
        help="for condition codes: a second folder with a picture of the same name for each, such "
        "as depth maps or edges",
        group="pictures",
    )
    clip: str = option("starter", help="name or folder of the CLIP that embeds the captions", group="network")
    grid: int = option(
        12, help="side of the window in codes: what the transformer sees at once", group="network", ge=2, le=64, quick=4
    )
    batch_size: int = option(32, help="pictures per step", ge=1, quick=4)
    layers: int = option(6, help="number of transformer blocks", group="network", ge=1, quick=2)
    heads: int = option(4, help="attention heads per block", group="network", ge=1)
    width: int = option(288, help="embedding width, a multiple of the heads", group="network", ge=8, quick=64)
    dropout: float = option(0.1, help="dropout probability", group="network", ge=0, lt=1)
    rotary: bool = option(
        False,
        help="rotary position embeddings over rows and columns (Su 2021) instead of learned ones; slightly slower",
        group="network",
    )
    views: int = option(
        8, help="crops taken from each picture once, before the training", group="pictures", ge=1, quick=2
    )
    smallest_crop: float = option(
        0.6,
        help="smallest crop as a fraction of the short side; 1 for whole pictures",
        group="pictures",
        gt=0,
        le=1,
    )
    flip: bool = option(True, help="flip crops horizontally at random", group="pictures")
    ground: str = option(
        "white", help="background colour for transparent pictures: a name or #rrggbb", group="pictures"
    )
    measure_every: int = option(
        100, help="steps between two evaluations on held-out pictures", group="advanced", ge=1, quick=2
    )
    patience: int = option(
        6,
        help="early stopping: end after this many evaluations without improvement; 0 for never",
        group="advanced",
        ge=0,
    )
    save_minutes: float = option(3.0, help="minutes between two saved states", group="advanced", ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        help="number format of the network; auto chooses the faster one that is safe on this machine",
        group="advanced",
    )
    tensorboard: bool = option(False, help="also write TensorBoard event files", group="advanced")
