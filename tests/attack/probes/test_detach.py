"""Taking the attachment off is the model's bare weights, and it is back at the end."""

from __future__ import annotations

import numpy as np
import pytest

from attack.probes.rig import CAR, CASES, HOW, backend, bits, prompts_and_seeds, same_bits
from oubliette.attack.probes.detach import Detach
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.sld import STRENGTHS, SafetyGuidance


def guarded() -> SafetyGuidance:
    return SafetyGuidance(words=("car",), **STRENGTHS["max"])


def test_it_draws_what_the_weights_draw_and_puts_the_attachment_back() -> None:
    model = backend()
    before = bits(model)
    prompts, seeds = prompts_and_seeds()
    plain = model.draw(prompts, seeds, steps=6, guidance=2.0, batch=2)
    model.attach(own := guarded())
    attached = model.draw(prompts, seeds, steps=6, guidance=2.0, batch=2)
    seen: list[tuple[int, int]] = []
    shown = Detach().run(model, CAR, CASES, sampling=HOW, progress=lambda done, of: seen.append((done, of)))
    assert np.array_equal(shown.samples, plain)
    assert not np.array_equal(attached, plain)
    assert (shown.prompts, shown.seeds, shown.best_of) == (tuple(prompts), tuple(seeds), 1)
    assert seen == [(2, 3), (3, 3)]
    assert model.attachment is own
    assert same_bits(model, before)


def test_a_model_with_nothing_attached_is_drawn_from_as_it_is() -> None:
    model = backend()
    prompts, seeds = prompts_and_seeds()
    shown = Detach().run(model, CAR, CASES, sampling=HOW)
    assert np.array_equal(shown.samples, model.draw(prompts, seeds, steps=6, guidance=2.0, batch=2))


def test_it_is_put_back_after_an_error_too() -> None:
    model = backend()
    model.attach(own := guarded())

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Detach().run(model, CAR, CASES, sampling=HOW, progress=stop)
    assert model.attachment is own


def test_what_nothing_can_be_attached_to_is_refused() -> None:
    class Words:
        source = "words"

    with pytest.raises(UserError, match="something can be attached to; words is none"):
        Detach().run(Words(), CAR, CASES)  # type: ignore[arg-type]


def test_its_cost_is_its_pictures() -> None:
    cost = Detach.cost(Detach.Options(), 5, sampling=HOW)
    assert (cost.forwards, cost.backwards, cost.pictures) == (5 * 6 * 2, 0, 5)
