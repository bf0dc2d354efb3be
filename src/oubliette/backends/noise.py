"""How noise is mixed in, and what a prediction means: one algebra for epsilon, v, x0 and flow models.

Every family mixes x_t = a x_0 + s n with n ~ N(0, I). Variance-preserving schedules have a = sqrt(ab_t),
s = sqrt(1 - ab_t); rectified flow has a = 1 - u, s = u with u = t / T. What differs is the network's output:
n (epsilon), a n - s x_0 (v_prediction), x_0 (sample) or n - x_0 (flow).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oubliette.core.errors import UserError

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow")


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise levels of `train_timesteps` steps and the meaning of the network's output.

    `alphas_cumprod` is (T,) float32, or None for rectified flow. Timesteps are (B,) integers in [0, T), or
    one integer; flow also takes fractions. All methods keep the shape and dtype of the latents they are
    given.
    """

    prediction: str
    train_timesteps: int
    alphas_cumprod: Tensor | None

    def levels(self, t: Tensor | int | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """The factors a and s at `t`, shaped (B, 1, 1, ...) to multiply `like` (B, ...), in float32 at
        least.
        """
        steps = torch.as_tensor(t, device=like.device).reshape(-1)
        wide = torch.promote_types(like.dtype, torch.float32)
        if self.alphas_cumprod is None:
            share = steps.to(wide) / self.train_timesteps
            signal, noise = 1 - share, share
        else:
            kept = self.alphas_cumprod.to(like.device)[steps.long()].to(wide)
            signal, noise = kept.sqrt(), (1 - kept).sqrt()
        shape = (-1, *([1] * (like.dim() - 1)))
        return signal.reshape(shape), noise.reshape(shape)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """x_t = a x_0 + s n."""
        a, s = self.levels(t, clean)
        return (a * clean + s * noise).to(clean.dtype)

    def target_of(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """What the network should put out for this x_0 and n at `t`."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        if self.prediction == "flow":
            return noise - clean
        a, s = self.levels(t, clean)
        return (a * noise - s * clean).to(clean.dtype)

    def clean_of(self, prediction: Tensor, noisy: Tensor, t: Tensor | int) -> Tensor:
        """The x_0 that a prediction implies, not clipped; where an epsilon model keeps no signal it is
        infinite.
        """
        if self.prediction == "sample":
            return prediction
        a, s = self.levels(t, noisy)
        if self.prediction == "epsilon":
            clean = (noisy - s * prediction) / a
        elif self.prediction == "flow":
            clean = noisy - s * prediction
        else:
            clean = a * noisy - s * prediction
        return clean.to(noisy.dtype)

    def noise_of(self, prediction: Tensor, noisy: Tensor, t: Tensor | int) -> Tensor:
        """The noise n that a prediction implies."""
        if self.prediction == "epsilon":
            return prediction
        a, s = self.levels(t, noisy)
        if self.prediction == "sample":
            noise = (noisy - a * prediction) / s
        elif self.prediction == "flow":
            noise = noisy + a * prediction
        else:
            noise = s * noisy + a * prediction
        return noise.to(noisy.dtype)


def schedule_of(scheduler_config: dict, where: str) -> NoiseSchedule:
    """The noise schedule that a diffusers scheduler's config describes.

    The betas, their rescaling to zero terminal SNR and the prediction type come from the config; a config of
    a FlowMatch scheduler means rectified flow. Raises UserError for a prediction type that is not known.
    """
    from oubliette.backends.sampling import make_scheduler

    steps = int(scheduler_config.get("num_train_timesteps", 1000))
    if "FlowMatch" in str(scheduler_config.get("_class_name", "")):
        return NoiseSchedule("flow", steps, None)
    prediction = str(scheduler_config.get("prediction_type", "epsilon"))
    if prediction not in PREDICTIONS[:3]:
        raise UserError(
            f"{where}: the scheduler's prediction_type is {prediction!r}; known: {', '.join(PREDICTIONS[:3])}"
        )
    alphas_cumprod = make_scheduler("ddim", scheduler_config).alphas_cumprod
    return NoiseSchedule(prediction, steps, alphas_cumprod.float().clone())
