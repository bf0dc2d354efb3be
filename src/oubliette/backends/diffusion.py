"""A text-to-image diffusion pipeline of diffusers as a backend: encode, noise, predict, draw, save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oubliette.backends import saving
from oubliette.backends.base import TEXT_FACING
from oubliette.backends.device import default_device
from oubliette.backends.drawing import Drawing
from oubliette.backends.family import Family, family_of
from oubliette.backends.files.adapters import save_diffusers_adapters
from oubliette.backends.files.lora_form import Factors
from oubliette.backends.files.opening import check_tensors, check_vocabulary, reason
from oubliette.backends.files.stored import StoredModel, canonical
from oubliette.backends.hooks import blocks_of
from oubliette.backends.layers import own
from oubliette.backends.noise import schedule_of
from oubliette.backends.quiet import quiet_loading
from oubliette.backends.sampling import sampler_for
from oubliette.backends.text import TextEmbedding, TextReader
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest, read_object

__all__ = ["DiffusionBackend", "TextEmbedding"]


class DiffusionBackend(Drawing):
    """One interface to every family of pipelines that `families/*.json` describes.

    `latent_shape` is (C, h, w), `picture_side` the side of a picture in pixels, `train_timesteps` the
    number of noise levels. All weights are frozen (`requires_grad` False) on opening: whoever trains
    unfreezes what may move. `sampler` (ddim, dpm or flow) is what `draw` uses; part of a picture's
    identity.
    """

    kind = "diffusion"
    faults: tuple[str, ...] = ()

    def __init__(
        self,
        pipe: Any,
        *,
        family: Family,
        source: str = "memory",
        world: str | None = None,
        stored: StoredModel | None = None,
    ) -> None:
        self.pipe = pipe
        self.family = family
        self.source = source
        self.origin = source  # stays what the stored weights are, when a delta is put on top
        self.world = world
        self.stored = stored
        self.scheduler_config = _config_of(pipe.scheduler)
        self.schedule = schedule_of(self.scheduler_config, source)
        self.train_timesteps = self.schedule.train_timesteps
        self.sampler = sampler_for(self.scheduler_config)
        self._denoiser: Any = getattr(pipe, family.denoiser)
        size = self._denoiser.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        self.latent_shape = (int(self._denoiser.config.in_channels), int(height), int(width))
        self.picture_side = int(height) * int(pipe.vae_scale_factor)
        time_ids = None
        if "time_ids" in family.added_conditions.values():
            sides = (height * pipe.vae_scale_factor, width * pipe.vae_scale_factor)
            time_ids = tuple(
                float(x) for x in (*sides, 0, 0, *sides)
            )  # original size, crop corner, target size
        self._reader = TextReader(pipe, family, time_ids)
        for module in self.modules().values():
            module.requires_grad_(False).eval()

    # -- opening ---------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        source: str | None = None,
        overlay: dict[str, Path] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> DiffusionBackend:
        """Open a diffusers folder of safetensors, in float32 unless `dtype` says otherwise.

        `overlay` takes named components from other folders (a twin that differs in its UNet alone). A safety
        checker is not loaded, but kept when the model is saved. Raises UserError for pickles, broken or
        incomplete folders, and pipelines of an unknown family.
        """
        from diffusers import DiffusionPipeline

        folder = Path(folder)
        stored = StoredModel(folder, overlay)
        family = family_of(stored.pipeline_class, str(folder))
        _check_parts(stored, family)
        options: dict[str, Any] = dict(family.load_options)
        options.update({name: None for name in family.unused if name in stored.components})
        if stored.variant:
            options["variant"] = stored.variant
        try:
            with quiet_loading():
                for component, where in stored.overlay.items():
                    options[component] = saving.load_component(stored.index[component], where)
                pipe = DiffusionPipeline.from_pretrained(str(folder), use_safetensors=True, **options)
        except Exception as error:  # whatever a library makes of files it cannot read
            raise UserError(
                f"{folder}: cannot be opened as a diffusers pipeline ({reason(error)})"
            ) from error
        for part in (*family.editable, "vae"):
            held = {canonical(f"{part}.{name}"): p for name, p in getattr(pipe, part).named_parameters()}
            check_tensors(held, stored.sizes(part), stored.weights(part))
        pipe.set_progress_bar_config(disable=True)
        world = read_manifest(folder).get("world")
        model = cls(pipe, family=family, source=source or str(folder), world=world, stored=stored)
        return model.to(device or default_device(), dtype or torch.float32)

    @classmethod
    def from_pipeline(
        cls, pipe: Any, *, source: str = "memory", world: str | None = None
    ) -> DiffusionBackend:
        """Take a pipeline in memory as it is, sharing its weights: what is erased here is erased there.

        Its dtype and device stay; fine updates are lost in float16 weights, so wrap a float32 pipeline to
        train.
        """
        return cls(pipe, family=family_of(type(pipe).__name__, "the pipeline"), source=source, world=world)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> DiffusionBackend:
        """Move all components (and convert them, if `dtype` is given); returns itself."""
        for module in self.modules().values():
            nn.Module.to(module, device=device, dtype=dtype)
        return self

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the denoiser's weights are."""
        return next(self._denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The denoiser's dtype, which latents are cast to."""
        return next(self._denoiser.parameters()).dtype

    def modules(self) -> dict[str, nn.Module]:
        """The denoiser, the text encoders and the VAE, by their names in the pipeline."""
        return {name: getattr(self.pipe, name) for name in (*self.family.editable, "vae")}

    def tensors(self) -> dict[str, nn.Parameter]:
        """Parameters of the denoiser and the text encoders (not the VAE), as "unet.<name>",
        "text_encoder.<name>".
        """
        return {
            f"{component}.{name}": parameter
            for component in self.family.editable
            for name, parameter in own(dict(getattr(self.pipe, component).named_parameters())).items()
        }

    def groups(self) -> dict[str, list[str]]:
        """The family's named groups of tensors, e.g. "text-facing" and "cross-attention"."""
        names = list(self.tensors())
        return {group: self.family.members(group, names) for group in self.family.groups}

    def text_facing(self) -> list[str]:
        """Weights that read the text: attn2.to_k and attn2.to_v of every cross-attention block."""
        return self.family.members(TEXT_FACING, list(self.tensors()))

    def fingerprint(self) -> str:
        """sha256 over every tensor of denoiser, text encoders and VAE, as stored where it is as stored; with
        something attached, over that as well.
        """
        return self.with_attachment(saving.fingerprint(self))

    # -- text and pictures -----------------------------------------------------------------------------------

    def encode_text(self, prompts: Sequence[str], *, grad: bool = False) -> TextEmbedding:
        """Encode prompts (B,); cached per prompt while the text encoder is frozen. See `TextReader`."""
        return self._reader.encode(prompts, grad=grad)

    @property
    def text_requires_grad(self) -> bool:
        """Whether any text encoder, or an adapter over one, is being trained."""
        return self._reader.requires_grad

    def encode_tokens(self, tokens: Tensor, tails: Sequence[str]) -> TextEmbedding:
        """Encode prompts that begin with tokens given by id (B, k) or by weights over the vocabulary
        (B, k, V), with a graph to the weights; see `TextReader.encode_tokens`.
        """
        return self._reader.encode_tokens(tokens, tails)

    def encode_embeddings(self, prefix: Tensor, tails: Sequence[str]) -> TextEmbedding:
        """Encode prompts that begin with input embeddings (B, k, d), with a graph to them and to the weights;
        see `TextReader.encode_embeddings`.
        """
        return self._reader.encode_embeddings(prefix, tails)

    def token_embeddings(self, tokens: Tensor) -> Tensor:
        """The input embeddings (B, k, d) of tokens by id (B, k); see `TextReader.token_embeddings`."""
        return self._reader.token_embeddings(tokens)

    @property
    def tokenizers(self) -> list[Any]:
        """The tokenizer of each text encoder, in the family's order."""
        return self._reader.tokenizers

    def cut_prompts(self, prompts: Sequence[str]) -> list[str]:
        """Those of the prompts that are too long: no text encoder reads them to their end."""
        return self._reader.cut(prompts)

    def unconditional(self, count: int) -> TextEmbedding:
        """What guidance is measured against, `count` times: the empty prompt, or zeros where the family
        says so.
        """
        empty = self.encode_text([""]).repeat(count)
        if getattr(self.pipe.config, "force_zeros_for_empty_prompt", False):
            extra = {k: torch.zeros_like(v) if k == "pooled" else v for k, v in empty.extra.items()}
            return TextEmbedding(torch.zeros_like(empty.hidden), empty.last_token, empty.length, extra)
        return empty

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to scaled latents (B, C, h, w): the posterior's mean."""
        vae = self.pipe.vae
        mean = vae.encode(pictures.to(self.device, self.dtype)).latent_dist.mean
        return (mean - self._shift) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Scaled latents (B, C, h, w) to pictures (B, H, W, 3) uint8."""
        vae = self.pipe.vae
        pictures = vae.decode(
            latents.to(self.device, self.dtype) / vae.config.scaling_factor + self._shift
        ).sample
        unit = (pictures.float() / 2 + 0.5).clamp(0, 1)
        return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    # -- noise and prediction --------------------------------------------------------------------------------

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """x_t = a x_0 + s n at timesteps t (B,) in [0, train_timesteps)."""
        return self.schedule.add_noise(clean, noise, t)

    def predict(self, noisy: Tensor, t: Tensor | int, text: TextEmbedding) -> Tensor:
        """The denoiser's native output (B, C, h, w) at x_t, t (B,) or one number, and the text (B rows)."""
        steps = torch.as_tensor(t, device=noisy.device)
        steps = steps.expand(len(noisy)) if steps.dim() == 0 else steps
        options: dict[str, Any] = {}
        if self.family.added_conditions:
            options["added_cond_kwargs"] = {
                argument: text.extra[name] for argument, name in self.family.added_conditions.items()
            }
        return self._denoiser(noisy, steps, encoder_hidden_states=text.hidden, return_dict=False, **options)[
            0
        ]

    def blocks(self) -> list[nn.Module]:
        """The denoiser's blocks, first to last: a UNet's down blocks, its middle and its up blocks."""
        return blocks_of(self._denoiser)

    def rehearse(self, count: int) -> Tensor:
        """`predict` on noise (count, C, h, w) half-way through the noise levels, at the empty prompt; through
        the text encoder too where gradients are on and that requires one.
        """
        rng = torch.Generator().manual_seed(0)
        noisy = torch.randn(count, *self.latent_shape, generator=rng).to(self.device, self.dtype)
        text = self.encode_text([""] * count, grad=self.text_requires_grad and torch.is_grad_enabled())
        return self.predict(noisy, self.train_timesteps // 2, text)

    def noise_of(self, prediction: Tensor, noisy: Tensor, t: Tensor | int) -> Tensor:
        """The noise (epsilon) that a prediction implies, whatever the prediction type."""
        return self.schedule.noise_of(prediction, noisy, t)

    def clean_of(self, prediction: Tensor, noisy: Tensor, t: Tensor | int) -> Tensor:
        """The clean latents x_0 that a prediction implies, not clipped."""
        return self.schedule.clean_of(prediction, noisy, t)

    def target_of(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """What `predict` should put out for this clean latent and this noise."""
        return self.schedule.target_of(clean, noise, t)

    @property
    def _shift(self) -> float:
        return float(getattr(self.pipe.vae.config, "shift_factor", None) or 0.0)

    # -- saving ----------------------------------------------------------------------------------------------

    def save(
        self,
        folder: Path | str,
        *,
        form: str = "full",
        base: Any = None,
        record: dict[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        rank: int | None = None,
        energy: float | None = None,
        factors: Factors | None = None,
    ) -> None:
        """Save to a new folder: "full" opens with diffusers' `from_pretrained`, "lora" with its
        `load_lora_weights`, "delta" and "attached" with `open_model`, which opens all four.

        Unchanged tensors keep their stored bytes; changed ones are written in the base's dtype, or in
        `dtype`. `base` (a backend) is what a delta or a LoRA is taken from; by default what this model was
        opened from. `rank` and `energy` bound a LoRA (`lora_form.low_rank`), which is written in fp32;
        `factors` are what changed, where it was trained as one.
        `record` goes into `oubliette.json`. Raises UserError if the folder exists; writes nothing unless all
        of it.
        """
        options: dict[str, Any] = {"form": form, "base": base, "record": record, "dtype": dtype}
        saving.save(self, Path(folder), **options, rank=rank, energy=energy, factors=factors)

    def save_adapters(self, folder: Path, values: Mapping[str, Tensor], *, rank: int, alpha: float) -> None:
        """Write LoRA adapters ("NAME.lora_A", "NAME.lora_B") into a folder, as diffusers opens them."""
        save_diffusers_adapters(self.pipe, folder, values, rank=rank, alpha=alpha)


def _check_parts(stored: StoredModel, family: Family) -> None:
    """UserError for a part that the family needs and the folder, or its model_index.json, lacks."""
    tokenizers = [name for name, _ in family.text_encoders]
    for part in (*family.editable, *tokenizers, "vae", "scheduler"):
        if part not in stored.components:
            raise UserError(
                f"{stored.folder / 'model_index.json'}: names no {part}, which {family.title} has"
            )
        if not stored.at(part).is_dir():
            named = " ".join(stored.index[part])
            raise UserError(
                f"{stored.folder}: has no folder {part}, which model_index.json names ({named}); "
                "fetch the model anew"
            )
        if (config := stored.at(part) / "config.json").is_file():
            read_object(config)
    for name, encoder in family.text_encoders:
        check_vocabulary(stored.at(name), f"the {encoder}")


def _config_of(scheduler: Any) -> dict[str, Any]:
    return {**dict(scheduler.config), "_class_name": type(scheduler).__name__}
