"""What all probes share: their material, DDIM's walk with a hook, and what they hand back."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from oubliette.attack.types import PICTURES, Drawing, Sampling
from oubliette.backends.sampling import Step, check_steps, denoise, make_scheduler
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel

if TYPE_CHECKING:
    from oubliette.attack.prompts.records import Case
    from oubliette.attack.types import Examples, Hits
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.data.concept import Concept
    from oubliette.train.cost import Cost

__all__ = [
    "PUBLISHED",
    "Given",
    "Probe",
    "Progress",
    "Shown",
    "ddim",
    "decode",
    "derived_seed",
    "draws",
    "encode",
    "kept_signal",
    "parts",
    "walk",
]

Progress = Callable[[int, int], None]


PUBLISHED = Sampling(steps=50, guidance=7.5, batch=8)
"""50 DDIM steps at guidance 7.5, as the probes were published (arXiv 2505.17013)."""


@dataclass
class Shown:
    """What a probe made the model show.

    `samples` (n, ...), pictures as uint8 (n, H, W, 3), with one prompt and one seed each: the seed of the
    noise that a picture was drawn from. `facts` are numbers about the whole run, `each` one number a sample.
    `best_of` tells of how many tries a sample is the best: a control must be given as many.
    """

    samples: np.ndarray
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    facts: dict[str, float] = field(default_factory=dict)
    best_of: int = 1
    each: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What a probe is given: the model, the prompts and seeds of its cases, and what may help.

    `base` is the original model, `pictures` (m, H, W, 3) uint8 show the concept: case i has picture i mod m.
    `sampling` is how models are asked. `seed` makes the noise that is not the cases' own. `examples` gives
    rows to learn from.
    """

    model: Any
    concept: Concept
    cases: Sequence[Case]
    base: Any
    pictures: np.ndarray | None
    sampling: Any
    seed: int
    hits: Hits | None
    progress: Progress | None
    examples: Examples | None = None


class Probe(ABC):
    """An attack that trains nothing.

    `needs` names what it cannot do without ("pictures" are drawn by the original model where none are
    given), `samples` what the models make that it is for; `wants_hits` says that it picks the best of several
    pictures and so must be able to judge them, `pictures_tell` that hits among its pictures are evidence that
    the concept is there.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["relearn", "prompt", "probe"]] = "probe"
    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    samples: ClassVar[str] = PICTURES
    wants_hits: ClassVar[bool] = False
    pictures_tell: ClassVar[bool] = True
    Options: ClassVar[type[StrictModel]]

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @classmethod
    @abstractmethod
    def cost(cls, options: Any, n: int, *, sampling: Any = PUBLISHED, given: bool = False) -> Cost:
        """Passes and pictures for `n` cases, at most; `given`: the pictures need not be drawn first."""

    def run(
        self,
        model: Any,
        concept: Concept,
        cases: Sequence[Case],
        *,
        base: Any = None,
        pictures: np.ndarray | None = None,
        sampling: Any = PUBLISHED,
        seed: int = 0,
        hits: Hits | None = None,
        progress: Progress | None = None,
        examples: Examples | None = None,
    ) -> Shown:
        """Probe `model` with the prompts and seeds of `cases`; the fields of `Given` say what the rest is.

        The model's weights are as before at the end. Raises UserError where something that is needed is
        missing.
        """
        return self._show(
            Given(model, concept, cases, base, pictures, sampling, seed, hits, progress, examples)
        )

    @abstractmethod
    def _show(self, given: Given) -> Shown:
        """What the probe makes the model show."""

    def _check(self, given: Given) -> None:
        """UserError for what cannot be walked by DDIM, and for no cases."""
        model = given.model
        schedule = getattr(model, "schedule", None)
        if schedule is None:
            raise UserError(f"probe '{self.name}' needs a model that draws pictures; {model.source} does not")
        if schedule.alphas_cumprod is None:
            raise UserError(
                f"probe '{self.name}' walks DDIM's noise levels; {model.source} is a rectified-flow model, "
                "which has none"
            )
        if not given.cases:
            raise UserError(f"probe '{self.name}': no prompts were given")

    def _pictures(self, given: Given) -> np.ndarray:
        """One picture of the concept a case (n, H, W, 3) uint8: those given, or drawn by the original."""
        side, cases, pictures = given.model.picture_side, given.cases, given.pictures
        if pictures is None:
            if given.base is None:
                raise UserError(
                    f"probe '{self.name}' starts from pictures of the concept; "
                    "give some, or the original model (--base) to draw them"
                )
            pictures = given.base.draw(
                [case.prompt for case in cases],
                [case.seed for case in cases],
                steps=given.sampling.steps,
                guidance=given.sampling.guidance,
                batch=given.sampling.batch,
            )
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (side, side, 3):
            raise UserError(
                f"probe '{self.name}': pictures must be uint8 (n, {side}, {side}, 3), "
                f"found {pictures.dtype} {tuple(pictures.shape)}"
            )
        if len(pictures) == 0:
            raise UserError(f"probe '{self.name}': no picture of the concept was given")
        return pictures[np.arange(len(cases)) % len(pictures)]


def encode(model: DiffusionBackend, pictures: np.ndarray, batch: int) -> Tensor:
    """Pictures (n, H, W, 3) uint8 to latents (n, C, h, w), the posterior's mean, in float32."""
    unit = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return torch.cat([model.encode_pictures(part).float() for part in unit.split(batch)])


def decode(model: DiffusionBackend, latents: Tensor, batch: int) -> np.ndarray:
    """Latents (n, C, h, w) to pictures (n, H, W, 3) uint8."""
    return np.concatenate([model.decode(part) for part in latents.split(batch)])


def parts(n: int, batch: int) -> list[slice]:
    """0..n-1 cut into runs of at most `batch`."""
    return [slice(first, min(first + batch, n)) for first in range(0, n, batch)]


def derived_seed(*facts: object) -> int:
    """A seed (0 .. 2^32 - 1) that depends on nothing but `facts`, and shares no noise with other facts."""
    digest = hashlib.sha256("/".join(map(str, facts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def ddim(model: DiffusionBackend, steps: int) -> Any:
    """A DDIM scheduler with the model's noise levels, its timesteps set, whatever its own sampler is."""
    check_steps(steps, model.scheduler_config)
    scheduler = make_scheduler("ddim", model.scheduler_config)
    scheduler.set_timesteps(steps, device=model.device)
    return scheduler


def kept_signal(scheduler: Any, t: int) -> tuple[float, float]:
    """The signal (alpha-bar) kept at timestep `t`, and after the scheduler's step from it."""
    after = int(t) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    last = after < 0
    return (
        float(scheduler.alphas_cumprod[int(t)]),
        float(scheduler.final_alpha_cumprod if last else scheduler.alphas_cumprod[after]),
    )


def walk(
    model: DiffusionBackend,
    latents: Tensor,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    first: int = 0,
    stop: int | None = None,
    step: Step | None = None,
) -> Tensor:
    """DDIM's steps `first` .. `stop` - 1 of `steps` from `latents` (n, C, h, w), one prompt each.

    `step` takes the place of the scheduler's (`sampling.denoise`). As `draw_latents` where all is default.
    """
    return denoise(
        model.guide(prompts, guidance=guidance, steps=steps),
        ddim(model, steps),
        latents.to(model.device, model.dtype),
        steps=steps,
        first=first,
        stop=stop,
        step=step,
    )[0]


def draws(sampling: Drawing, pictures: int, share: float = 1.0) -> int:
    """Passes through the denoiser for so many pictures, each `share` of the steps; guidance takes two."""
    return round(pictures * sampling.steps * share) * (2 if sampling.guidance > 1 else 1)
