"""Every language objective with every smoother and every surgery: it runs, or is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase import METHODS
from oubliette.erase.language.prepare import LanguageData, prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train import SMOOTHERS, SURGERIES
from oubliette.train.adapters import Adapters
from oubliette.train.config import TrainConfig
from oubliette.train.gradients import micro_batch_rng
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.weights import Weights
from short_methods import SHORT, SOURCES

TRAINED = [
    name
    for name in METHODS.names()
    if METHODS.get(name).backend == "language" and METHODS.get(name).solution == "trained"
]
#: Options under which a smoother has something to do in two steps; one that needs none is not listed.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "wa": [{"start": 1, "every": 1}],
    "gp": [{}, {"variant": "finite_diff"}],
    "cr": [{}, {"variant": "finite_diff"}],
    "refresh": [{}, {"form": "paper", "J": 2}, {"on": "all", "cap": 1.0}],
    "stableun": [{"probe": probe} for probe in ("sap", "gpn", "gap", "hws")],
}
SMOOTHED = [{"name": name, **more} for name in SMOOTHERS.names() for more in OPTIONS.get(name, [{}])]
#: What is refused, by method and smoother, with a reason.
REFUSED = {
    ("tar", "gp", "exact"): "cannot be differentiated twice",
    ("tar", "cr", "exact"): "cannot be differentiated twice",
}
CONFIG = TrainConfig(steps=2, batch=2, learning_rate=1e-3, warm_up=0)
every = pytest.mark.parametrize("name", TRAINED)


class Bench:
    """A tiny model, its rows, and a fresh objective on it each time."""

    def __init__(self, root: Path) -> None:
        tiny_language.save(root / "model", "llama")
        self.files = {
            "forget": tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET),
            "retain": tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN),
        }
        self.model = LanguageBackend.open(root / "model", device="cpu")

    def parts(self, name: str, **options: Any) -> tuple[Any, LanguageData]:
        request = ErasureRequest(
            forget=self.files["forget"],
            retain_file=self.files["retain"],
            sources={key: self.files[which] for key, which in SOURCES.get(name, {}).items()},
        )
        method = METHODS.get(name)
        objective = method(method.Options(**{**SHORT.get(name, {}), **options}), request)
        return objective, prepare(self.model, request, seed=0)

    def weights(self) -> Weights:
        return Weights(select(self.model, "full"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("parts"))


def refused(name: str, smoother: dict[str, Any]) -> str | None:
    """The reason, where there is one."""
    return REFUSED.get((name, smoother["name"], smoother.get("variant", "exact")))


def surgeries(turn: int) -> list[str]:
    """All of them that can be built here, beginning with another one for each turn."""
    names = SURGERIES.names()
    return names[turn % len(names) :] + names[: turn % len(names)]


@every
def test_every_smoother_and_every_surgery_work_on_it_or_are_refused_with_a_reason(
    name: str, bench: Bench
) -> None:
    """Each smoother once, with another surgery for each: over the methods all pairs of the three come up."""
    order = surgeries(TRAINED.index(name))
    for number, smoother in enumerate(SMOOTHED):
        surgery = order[number % len(order)]
        weights, said = bench.weights(), ""
        try:
            parts = {"surgery": SURGERIES.build(surgery), "smoother": SMOOTHERS.build(smoother)}
            objective, data = bench.parts(name)
            Loop(bench.model, objective, data, weights, CONFIG, show_progress=False, **parts).run()
            assert all(bool(torch.isfinite(parameter).all()) for parameter in weights.parameters)
            assert any(bool(delta.any()) for delta in weights.delta().values()), (smoother, surgery)
        except UserError as error:
            said = str(error)
        finally:
            weights.restore()
        reason = refused(name, smoother)
        if said and reason is None and surgery == "torchjd":
            reason = "oubliette[surgery]"  # the extra it needs is not installed
        assert bool(said) == (reason is not None), (smoother, surgery, said)
        assert (reason or "") in said


@every
def test_smoothed_training_of_low_rank_in_micro_batches_and_bf16(name: str, bench: Bench) -> None:
    """A smoother perturbs A and B, which keep the rank."""
    objective, data = bench.parts(name)
    weights = Adapters(bench.model, select(bench.model, "all-linear"), rank=2)
    config = CONFIG.model_copy(update={"accumulation": 2, "precision": "bf16"})
    loop = Loop(
        bench.model,
        objective,
        data,
        weights,
        config,
        smoother=SMOOTHERS.build({"name": "stableun", "probe": "gap", "rho": 0.1}),
        show_progress=False,
    )
    try:
        loop.run()
        delta = weights.delta()
        assert any(bool(part.any()) for part in delta.values())
        assert all(int(torch.linalg.matrix_rank(part, atol=1e-6)) <= 2 for part in delta.values())
    finally:
        weights.restore()


@every
def test_it_names_its_inner_roles_and_has_a_loss_for_each(name: str, bench: Bench) -> None:
    objective, data = bench.parts(name)
    weights = bench.weights()
    objective.setup(bench.model, data, weights, 0)
    inner = {role for role, each in objective.roles(0).items() if each.kind == "inner"}
    assert inner == set(objective.inner)
    draw = objective.draw(0, micro_batch_rng(0, 0, 0), 2)
    for role in inner:
        assert float(objective.loss(role, draw)) > 0


@every
def test_retained_rows_are_as_many_times_the_batch_as_is_asked_for(name: str, bench: Bench) -> None:
    objective, data = bench.parts(name, retain_batch=3)
    objective.setup(bench.model, data, bench.weights(), 0)
    draw = objective.draw(0, micro_batch_rng(0, 0, 0), 2)
    assert len(draw["retain"]) == 6
    assert len(draw["forget"]) <= 2
    assert METHODS.get(name).step_cost(objective.options).retain_batch == 3
    assert torch.isfinite(objective.loss("retain", draw))
