"""Every diffusion method on another family, another prediction type and in lower precision."""

from __future__ import annotations

import pytest
import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.erase import METHODS
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe

SHORT = {"doco": {"warm_up": 0}, "esd": {"trajectory_steps": 2}}
DIFFUSION = [name for name in METHODS if METHODS.get(name).backend == "diffusion"]


def run(model: DiffusionBackend, name: str, **train: object) -> dict[str, torch.Tensor]:
    facts = {
        "method": {"name": name, **SHORT.get(name, {})},
        "scope": "xattn-kv",
        "concepts": [{"name": "car", "anchor": "object"}],
        "data": {"prompts": 2, "pictures": 2, "picture_steps": 2, "retain": ["a dog"]},
        "train": {"steps": 2, "batch": 2, "learning_rate": 1e-3, **train},
    }
    return erase(model, build_recipe(facts), show_progress=False).weights.delta()


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("kind", ["xl", "v_prediction", "bfloat16"])
def test_every_method_moves_every_text_facing_tensor(name: str, kind: str) -> None:
    made = {
        "xl": tiny.xl_pipeline,
        "v_prediction": lambda: tiny.pipeline("v_prediction"),
        "bfloat16": lambda: tiny.pipeline(dtype=torch.bfloat16),
    }[kind]()
    model = DiffusionBackend.from_pipeline(made)
    deltas = run(model, name)
    assert set(deltas) == set(model.text_facing())
    assert all(float(delta.abs().max()) > 0 for delta in deltas.values())
    assert all(bool(torch.isfinite(delta).all()) for delta in deltas.values())


@pytest.mark.parametrize("name", [name for name in DIFFUSION if METHODS.get(name).solution == "trained"])
def test_mixed_precision_trains_on_the_same_pictures(name: str) -> None:
    deltas = [
        run(DiffusionBackend.from_pipeline(tiny.pipeline()), name, precision=precision)
        for precision in ("fp32", "bf16")
    ]
    for key, delta in deltas[0].items():
        cosine = torch.nn.functional.cosine_similarity(delta.flatten(), deltas[1][key].flatten(), dim=0)
        assert float(cosine) > 0.7
