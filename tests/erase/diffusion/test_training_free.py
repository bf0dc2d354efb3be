"""What training-free attachments share: settings there and back, one line for wrong ones, today's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.backends.attachment import ATTACHMENTS
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.erase import METHODS
from oubliette.erase.diffusion.training_free import words_of

NAMES = ("sld", "safree", "adavd")
HOW: dict[str, Any] = {"steps": 2, "guidance": 3.0}


def attachment(name: str, model: Any) -> Any:
    method = METHODS.get(name)
    options = {"warm_up": 0} if name == "sld" else {}
    asked = tiny_erasure.request()
    return method(method.Options(**options), asked).attachment(model, None, model.text_facing())


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_all_there_is(name: str) -> None:
    made = attachment(name, tiny_erasure.backend())
    assert made.tensors() == {}
    assert ATTACHMENTS.get(name).build(made.settings(), {}) == made


@pytest.mark.parametrize("name", NAMES)
def test_wrong_settings_are_one_line(name: str) -> None:
    made = attachment(name, tiny_erasure.backend())
    wrong: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({**made.settings(), "word": ["car"]}, {}, "did you mean 'words'"),
        ({**made.settings(), "words": []}, {}, "'words'"),
        ({key: value for key, value in made.settings().items() if key != "words"}, {}, "'words' is missing"),
        (made.settings(), {"x": torch.zeros(1)}, "has no tensors, found x"),
    ]
    for settings, tensors, says in wrong:
        with pytest.raises(UserError, match=says) as caught:
            ATTACHMENTS.get(name).build(settings, tensors)
        assert str(caught.value).startswith(f"attachment '{name}'")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_were_tuned_since_are_taken_as_they_are(name: str) -> None:
    """So that a relearning attack looks through the attachment at what it has made of the model."""
    tuned, fresh = tiny_erasure.backend(), tiny_erasure.backend()
    tuned.attach(attachment(name, tuned))
    tuned.draw(["a car"], [1], **HOW)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in tuned.tensors().items():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
            fresh.tensors()[key].copy_(parameter)
    fresh.attach(attachment(name, fresh))
    again = tuned.draw_latents(["a car"], [1], **HOW)
    assert torch.equal(again, fresh.draw_latents(["a car"], [1], **HOW))
    fresh.detach()
    assert not torch.equal(again, fresh.draw_latents(["a car"], [1], **HOW))


def test_words_are_names_and_synonyms_each_once() -> None:
    car, dog = Concept("car", "object", synonyms=("auto",)), Concept("dog", "animal", synonyms=("auto",))
    assert words_of(tiny_erasure.request(car, dog)) == ("car", "auto", "dog")
