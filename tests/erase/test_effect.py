"""Each method brings what is predicted for the concept nearer to what was predicted for its anchor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.erase.prepare import prepare
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe

PROBES = 32


@pytest.mark.parametrize(
    ("method", "train", "bound"),
    [
        ({"name": "uce", "prompts": "bank", "token_mode": "all", "regularisation": 0.01}, {"steps": 1}, 0.5),
        ({"name": "ablation", "teacher": "original"}, {"steps": 40, "batch": 8}, 0.5),
        (
            {
                "name": "doco",
                "prior": "none",
                "depth": 1,
                "rescale": True,
                "warm_up": 60,
                "discriminator_learning_rate": 1e-3,
            },
            {"steps": 160, "batch": 8},
            0.75,
        ),
    ],
    ids=lambda value: value.get("name", "") if isinstance(value, dict) else "",
)
def test_target_predictions_move_to_the_anchors(
    method: dict[str, Any], train: dict[str, Any], bound: float
) -> None:
    model = tiny_erasure.backend()
    with torch.no_grad():  # a random network hardly reads its text; this one does
        for name, tensor in model.tensors().items():
            if "attn2.to_v" in name or "attn2.to_out" in name:
                tensor.mul_(6)
    pairs = prepare(model, tiny_erasure.request(), seed=0).pairs
    chosen = [pairs[index % len(pairs)] for index in range(PROBES)]
    rng = torch.Generator().manual_seed(0)
    noisy = torch.randn(PROBES, *model.latent_shape, generator=rng)
    t = torch.randint(0, 1000, (PROBES,), generator=rng)

    @torch.no_grad()
    def predicted(prompts: list[str]) -> torch.Tensor:
        return model.predict(noisy, t, model.encode_text(prompts))

    targets, anchors = [pair.target for pair in chosen], [pair.anchor for pair in chosen]
    goal, before = predicted(anchors), predicted(targets)
    facts = {
        "method": method,
        "scope": "xattn-kv",
        "concepts": [{"name": "car", "anchor": "object"}],
        "data": {"prompts": 6, "pictures": 32, "picture_steps": 3},
        "train": {"learning_rate": 2e-3, "weight_decay": 0.0, **train},
    }
    erase(model, build_recipe(facts), show_progress=False)

    def gap(found: torch.Tensor) -> float:
        """Between the two domains' means, which is what a discriminator without a prompt can see."""
        return float((found.mean(dim=0) - goal.mean(dim=0)).norm())

    assert gap(predicted(targets)) < bound * gap(before)
