"""Figures that explain VQGAN and CLIP, for notebook 00.

Each figure is drawn from small functions that return the numbers it shows. Imports neither ``ui`` nor ``cli``.
"""

from vqtools.illustrated.adversarial import adaptive_weight_curve, discriminator_maps, minimax_and_hinge
from vqtools.illustrated.attention import attention_cost, sequence_costs
from vqtools.illustrated.codebook import choose_nearest, codebook_atlas, kmeans_codebook, swap_code
from vqtools.illustrated.guidance import codebook_vs_pixels, guidance_loop, prompt_engineering
from vqtools.illustrated.losses import loss_ablation, pixel_vs_perceptual
from vqtools.illustrated.pictures import open_picture, open_pictures
from vqtools.illustrated.prediction import attention_maps, next_code, nll_maps, sliding_window
from vqtools.illustrated.representations import convolution, pixels_to_codes
from vqtools.illustrated.settings import IllustratedSettings
from vqtools.illustrated.tree import idea_tree

__all__ = [
    "IllustratedSettings",
    "adaptive_weight_curve",
    "attention_cost",
    "attention_maps",
    "choose_nearest",
    "codebook_atlas",
    "codebook_vs_pixels",
    "convolution",
    "discriminator_maps",
    "guidance_loop",
    "idea_tree",
    "kmeans_codebook",
    "loss_ablation",
    "minimax_and_hinge",
    "next_code",
    "nll_maps",
    "open_picture",
    "open_pictures",
    "pixel_vs_perceptual",
    "pixels_to_codes",
    "prompt_engineering",
    "sequence_costs",
    "sliding_window",
    "swap_code",
]
