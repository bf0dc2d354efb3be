"""What all probes share: refusals, pictures of the concept, costs, the same result twice, kept weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attack.probes.rig import CAR, CASES, HOW, How, backend, bits, erased, flow, pictures, same_bits
from oubliette.attack.probes.complete import Complete
from oubliette.attack.probes.detach import Detach
from oubliette.attack.probes.inpaint import Inpaint
from oubliette.attack.probes.invert import Invert
from oubliette.attack.probes.probe import Given, derived_seed, kept_signal
from oubliette.attack.probes.trajectory import Trajectory
from oubliette.attack.probes.transplant import Transplant
from oubliette.backends.sampling import make_scheduler
from oubliette.core.errors import UserError

ALL = [Transplant, Inpaint, Complete, Trajectory, Invert, Detach]


def _few(kind: Any) -> Any:
    """A cheap version of each."""
    if kind is Trajectory:
        return kind(kind.Options(etas=(1.0, 1.5), scales=(1.0,)))
    if kind is Complete:
        return kind(kind.Options(ratios=(1.0, 0.5)))
    return kind()


def _odd_sums(drawn: np.ndarray) -> np.ndarray:
    return drawn.reshape(len(drawn), -1).sum(1) % 2 == 1


@pytest.mark.parametrize("kind", ALL)
def test_declares_itself(kind: Any) -> None:
    from oubliette.attack import PROBES
    from oubliette.attack.types import NEEDS

    assert PROBES.get(kind.name) is kind
    assert kind.kind == "probe"
    assert kind.about
    assert "\n" not in kind.about
    assert kind.needs <= set(NEEDS)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_shows_a_picture_a_case_twice_the_same_and_leaves_the_weights(kind: Any, prediction: str) -> None:
    base, model = backend(prediction), backend(prediction, seed=1)
    before = bits(model)
    seen: list[tuple[int, int]] = []

    def run(**more: Any) -> Any:
        return _few(kind).run(
            model, CAR, CASES, base=base, sampling=How(steps=3), seed=7, hits=_odd_sums, **more
        )

    shown, again = run(progress=lambda done, total: seen.append((done, total))), run()
    times = 2 if kind is Complete else 1
    assert shown.samples.shape == (3 * times, 16, 16, 3)
    assert shown.samples.dtype == np.uint8
    assert len(shown.prompts) == len(shown.seeds) == 3 * times
    assert all(len(values) == 3 * times for values in shown.each.values())
    assert all(np.isfinite(value) for values in shown.each.values() for value in values)
    assert all(np.isfinite(value) for value in shown.facts.values())
    assert np.array_equal(shown.samples, again.samples)
    assert (shown.seeds, shown.facts, shown.each) == (again.seeds, again.facts, again.each)
    assert seen[-1][0] == seen[-1][1]
    assert same_bits(model, before)
    assert not any(parameter.requires_grad for parameter in model.tensors().values())


@pytest.mark.parametrize("kind", [Inpaint, Complete, Trajectory, Invert])
def test_a_flow_model_and_a_language_model_are_refused_in_a_line(kind: Any) -> None:
    with pytest.raises(UserError, match=f"'{kind.name}' walks DDIM.*rectified-flow") as error:
        kind().run(flow(), CAR, CASES, pictures=pictures(3), sampling=HOW, hits=_odd_sums)
    assert "\n" not in str(error.value)

    class Words:
        source = "words"

    with pytest.raises(UserError, match="draws pictures"):
        kind().run(Words(), CAR, CASES, sampling=HOW)


@pytest.mark.parametrize("kind", ALL)
def test_no_cases_are_refused(kind: Any) -> None:
    with pytest.raises(UserError, match="no prompts"):
        kind().run(backend(), CAR, [], base=backend(), sampling=HOW, hits=_odd_sums)


@pytest.mark.parametrize("kind", [Inpaint, Complete, Invert])
def test_pictures_are_asked_for_and_looked_at(kind: Any) -> None:
    def run(given: Any) -> Any:
        return kind().run(backend(), CAR, CASES, pictures=given, sampling=HOW)

    with pytest.raises(UserError, match="pictures of the concept; give some, or the original"):
        run(None)
    with pytest.raises(UserError, match=r"must be uint8 \(n, 16, 16, 3\), found uint8 \(3, 8, 8, 3\)"):
        run(pictures(3, side=8))
    with pytest.raises(UserError, match="found float64"):
        run(pictures(3) / 255)
    with pytest.raises(UserError, match="no picture"):
        run(pictures(0))


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(UserError, match="sampling steps must lie in"):
        Inpaint().run(backend(), CAR, CASES, pictures=pictures(1), sampling=How(steps=1001))


def test_few_pictures_serve_many_cases_and_the_original_draws_them_otherwise() -> None:
    model, base = erased(), backend()
    two = pictures(2)
    probe = Invert()
    cycled = probe._pictures(Given(model, CAR, CASES, base, two, HOW, 0, None, None))
    assert np.array_equal(cycled, two[[0, 1, 0]])
    drawn = probe._pictures(Given(model, CAR, CASES, base, None, HOW, 0, None, None))
    expected = base.draw(
        [case.prompt for case in CASES], [case.seed for case in CASES], steps=6, guidance=2.0, batch=2
    )
    assert np.array_equal(drawn, expected)


def test_costs_count_each_pass_through_the_network() -> None:
    counted, how = 0, How(steps=3)
    model = backend()
    plain = model.predict

    def counting(noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal counted
        counted += len(noisy)
        return plain(noisy, *rest)

    model.predict = counting  # type: ignore[method-assign]
    for kind in ALL:
        for given in (False, True):
            counted, probe = 0, _few(kind)
            probe.run(
                model,
                CAR,
                CASES,
                base=model if not given or kind is Transplant else None,
                pictures=pictures(3) if given else None,
                sampling=how,
                hits=lambda drawn: np.zeros(len(drawn), dtype=bool),
            )
            assert probe.cost(probe.options, 3, sampling=how, given=given).forwards == counted, kind.name
    counted, probe = 0, Complete(Complete.Options(ratios=(0.7,), start="base"))
    probe.run(model, CAR, CASES, base=model, sampling=how)
    assert probe.cost(probe.options, 3, sampling=how).forwards == counted == 3 * 3 * 2


def test_published_budget_of_the_trajectory_probe() -> None:
    cost = Trajectory.cost(Trajectory.Options(), 30)
    assert (cost.pictures, cost.forwards, cost.backwards) == (720, 720 * 50 * 2, 0)


def test_derived_seeds_differ_and_stay() -> None:
    made = {derived_seed("a", 0, n) for n in range(100)} | {derived_seed("b", 0, n) for n in range(100)}
    assert len(made) == 200
    assert derived_seed("inpaint", 0, 3, 0) == derived_seed("inpaint", 0, 3, 0)
    assert all(0 <= seed < 2**32 for seed in made)


def test_kept_signal_is_that_of_the_step() -> None:
    scheduler = make_scheduler("ddim", backend().scheduler_config)
    scheduler.set_timesteps(10)
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0)
    assert kept_signal(scheduler, 901) == pytest.approx((kept[901].item(), kept[801].item()), rel=1e-4)
    # The last step goes to below 0, where this scheduler keeps the signal of timestep 0.
    assert kept_signal(scheduler, 1) == pytest.approx((kept[1].item(), kept[0].item()), rel=1e-6)
