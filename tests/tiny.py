"""Tiny random pipelines and pictures for the tests, made on the spot in well under two seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = """
    a an the of in on and with photo picture painting drawing image style red green blue small big
    car truck object dog cat animal house building person man woman ada lovelace van gogh monet hokusai
    artist horse ship vehicle by near sketch neon flat one two street field
"""


def tokenizer(length: int = 16) -> Any:
    """A CLIP tokenizer whose words are whole tokens and whose letters cover everything else."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    vocabulary: dict[str, int] = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for piece in [*letters, *(letter + "</w>" for letter in letters)]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            left, right = pieces[0], pieces[1]
            if (left, right) not in merges:
                merges.append((left, right))
            vocabulary.setdefault(left + right, len(vocabulary))
            pieces = [left + right, *pieces[2:]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def _text_config(vocabulary: int, length: int, width: int, **more: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **more,
    )


def _unet(text_width: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=text_width,
        attention_head_dim=4,
        **more,
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
    )


def _ddim(prediction: str = "epsilon", **more: Any) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
        **more,
    )


def pipeline(prediction: str = "epsilon", seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random StableDiffusionPipeline: 16x16 pictures, 4x8x8 latents, text of 16 tokens and 32 channels."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        pipe = StableDiffusionPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config(len(words), 16, 32)),
            tokenizer=words,
            unet=_unet(32),
            scheduler=_ddim(prediction),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    if dtype is not torch.float32:
        for part in (pipe.vae, pipe.text_encoder, pipe.unet):
            part.to(dtype)
    return pipe


def xl_pipeline(seed: int = 0) -> Any:
    """A random StableDiffusionXLPipeline with two text encoders, pooled text and time ids."""
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        pipe = StableDiffusionXLPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config(len(words), 16, 32)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(len(words), 16, 16, projection_dim=24)),
            tokenizer=words,
            tokenizer_2=tokenizer(),
            unet=_unet(
                48,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=24 + 6 * 8,
                transformer_layers_per_block=1,
                use_linear_projection=True,
            ),
            scheduler=_ddim(),
            add_watermarker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(pipe: Any, folder: Path) -> Path:
    """Save `pipe` as diffusers does, safetensors only, and return the folder."""
    from oubliette.backends.quiet import quiet_loading

    with quiet_loading():
        pipe.save_pretrained(str(folder), safe_serialization=True)
    return folder
