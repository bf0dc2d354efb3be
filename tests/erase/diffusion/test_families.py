"""Every diffusion method on another family, another prediction type and in lower precision."""

from __future__ import annotations

import pytest
import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.erase import METHODS
from oubliette.erase.result import EraseResult
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe
from oubliette.train.scope import select
from oubliette.train.weights import Weights
from short_methods import SCOPED, SHORT, saved_as

DIFFUSION = [name for name in METHODS if METHODS.get(name).backend == "diffusion"]


def run(model: DiffusionBackend, name: str, **train: object) -> EraseResult:
    facts = {
        "method": {"name": name, **SHORT.get(name, {}), **({"warm_up": 0} if name == "doco" else {})},
        "scope": SCOPED.get(name, "xattn-kv"),
        "concepts": [{"name": "car", "anchor": "object"}],
        "data": {"prompts": 2, "pictures": 2, "picture_steps": 2, "retain": ["a dog"]},
        "train": {"steps": 2, "batch": 2, "learning_rate": 1e-3, **train},
        "save": {"form": saved_as(name)},
    }
    return erase(model, build_recipe(facts), show_progress=False)


def deltas_of(result: EraseResult) -> dict[str, torch.Tensor]:
    assert isinstance(result.weights, Weights)
    return result.weights.delta()


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("kind", ["xl", "v_prediction", "bfloat16"])
def test_every_method_moves_every_tensor_of_its_scope_or_what_is_drawn(name: str, kind: str) -> None:
    made = {
        "xl": tiny.xl_pipeline,
        "v_prediction": lambda: tiny.pipeline("v_prediction"),
        "bfloat16": lambda: tiny.pipeline(dtype=torch.bfloat16),
    }[kind]()
    model = DiffusionBackend.from_pipeline(made)
    how = {"steps": 3, "guidance": 3.0}
    before = model.draw(["a car"], [1], **how)
    result = run(model, name)
    if saved_as(name) == "attached":
        assert not (model.draw(["a car"], [1], **how) == before).all()
        return
    deltas = deltas_of(result)
    assert set(deltas) == set(select(model, SCOPED.get(name, "xattn-kv")))
    assert all(float(delta.abs().max()) > 0 for delta in deltas.values())
    assert all(bool(torch.isfinite(delta).all()) for delta in deltas.values())


@pytest.mark.parametrize("name", [name for name in DIFFUSION if METHODS.get(name).solution == "trained"])
def test_mixed_precision_trains_on_the_same_pictures(name: str) -> None:
    deltas = [
        deltas_of(run(DiffusionBackend.from_pipeline(tiny.pipeline()), name, precision=precision))
        for precision in ("fp32", "bf16")
    ]
    wide, narrow = (torch.cat([delta.flatten() for delta in each.values()]) for each in deltas)
    # Other pictures give about 0. How a processor rounds to bfloat16 moves SPM between 0.6 and 0.8.
    assert float(torch.nn.functional.cosine_similarity(wide, narrow, dim=0)) > 0.5
