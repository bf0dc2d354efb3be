"""Models of a real one's shapes with random weights, built in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

__all__ = ["SHAPES", "built"]

SHAPES = ("nano", "sd15")
_DEVIATION = 0.02


def built(shape: str, side: int = 16) -> DiffusionBackend:
    """The embedded nano, or an SD-1.5-shaped pipeline with latents of `side` by `side`.

    The latter has SD-1.5's UNet (860 M parameters) and text encoder widths (CLIP ViT-L/14's 12 layers of 768,
    77 tokens; nano's words), normal weights of deviation 0.02, and a VAE that is small, since no step uses
    it.
    """
    from oubliette.backends import open_model
    from oubliette.backends.diffusion import DiffusionBackend

    nano = open_model("nano", device="cpu")
    assert isinstance(nano, DiffusionBackend)
    return nano if shape == "nano" else _sd15(nano, side)


@torch.no_grad()
def _sd15(nano: DiffusionBackend, side: int) -> DiffusionBackend:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from oubliette.backends.diffusion import DiffusionBackend

    words = nano.tokenizers[0]
    tokenizer = CLIPTokenizer.from_pretrained(words.name_or_path, model_max_length=77)
    with torch.device("meta"):
        # The class's own defaults are SD-1's but for these two.
        unet = UNet2DConditionModel(sample_size=side, cross_attention_dim=768)
    unet = unet.to_empty(device="cpu")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    rng = torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        parameter.normal_(0, _DEVIATION, generator=rng)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
        ),
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return DiffusionBackend.from_pipeline(pipe)
