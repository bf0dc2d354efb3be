"""What goes with a model: it speaks in drawing, is in the fingerprint, is saved, comes off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from oubliette.backends import open_model
from oubliette.backends.attachment import ATTACHMENTS
from oubliette.backends.guidance import Guidance
from oubliette.core.errors import UserError

HOW: dict[str, Any] = {"steps": 3, "guidance": 2.0}


class Louder:
    """Multiplies every prediction and adds to it, counting its batches."""

    name: ClassVar[str] = "louder"

    def __init__(self, factor: float, shift: torch.Tensor) -> None:
        self.factor, self.shift = factor, shift
        self.seen: list[tuple[str, ...]] = []

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Louder:
        return cls(settings["factor"], tensors["shift"])

    def settings(self) -> dict[str, Any]:
        return {"factor": self.factor}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"shift": self.shift}

    def guide(self, model: Any, plain: Guidance) -> Any:
        self.seen.append(plain.prompts)
        return lambda number, t, latents: self.factor * plain(number, t, latents) + self.shift


@pytest.fixture
def model(tiny_folder: Path):
    ATTACHMENTS.register("louder", Louder)
    return open_model(tiny_folder, device="cpu")


def louder(factor: float = 1.1) -> Louder:
    return Louder(factor, torch.full((1,), 0.2))


def test_it_has_its_say_in_what_is_drawn_and_comes_off(model) -> None:
    plain = model.draw(["a car", "a dog"], [1, 2], **HOW)
    model.attach(own := louder())
    assert not (model.draw(["a car", "a dog"], [1, 2], batch=1, **HOW) == plain).all()
    assert own.seen == [("a car",), ("a dog",)]
    with model.detached():
        assert (model.draw(["a car", "a dog"], [1, 2], **HOW) == plain).all()
    with pytest.raises(UserError, match="'louder' is attached already"):
        model.attach(louder())
    model.detach()
    assert (model.draw(["a car", "a dog"], [1, 2], **HOW) == plain).all()


def test_one_that_changes_nothing_gives_the_same_pictures(model) -> None:
    plain = model.draw(["a car"], [1], **HOW)
    model.attach(Louder(1.0, torch.zeros(1)))
    assert (model.draw(["a car"], [1], **HOW) == plain).all()


def test_the_fingerprint_is_of_both(model) -> None:
    bare = model.fingerprint()
    model.attach(louder())
    one = model.fingerprint()
    model.detach()
    model.attach(louder(1.2))
    assert len({bare, one, model.fingerprint()}) == 3
    model.detach()
    assert model.fingerprint() == bare


def test_saved_beside_the_base_and_opened_again(model, tiny_folder: Path, tmp_path: Path) -> None:
    model.attach(louder())
    drawn = model.draw(["a car"], [1], **HOW)
    model.save(tmp_path / "out", form="attached", record={"method": "toy"})
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "attached.json",
        "attached.safetensors",
        "oubliette.json",
    }
    opened = open_model(tmp_path / "out", device="cpu")
    assert opened.source == str(tmp_path / "out")
    assert opened.fingerprint() == model.fingerprint()
    assert (opened.draw(["a car"], [1], **HOW) == drawn).all()
    opened.save(tmp_path / "again", form="attached")
    assert json.loads((tmp_path / "again" / "oubliette.json").read_text())["base"]["source"] == str(
        tiny_folder
    )


def test_weights_that_were_changed_too_are_not_lost_unnoticed(model, tmp_path: Path) -> None:
    model.attach(louder())
    with torch.no_grad():
        next(iter(model.tensors().values())).add_(1.0)
    with pytest.raises(UserError, match="weights were changed as well"):
        model.save(tmp_path / "out", form="attached")
    with pytest.raises(UserError, match="which no weights hold"):
        model.save(tmp_path / "out", form="full")
    model.detach()
    with pytest.raises(UserError, match="nothing is attached"):
        model.save(tmp_path / "out", form="attached")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "attached.json"),
        ('{"attachment": "louder"}', "expected 'attachment'"),
        ('{"attachment": "lowder", "settings": {}}', "did you mean 'louder'"),
    ],
)
def test_a_broken_folder_gives_one_line(model, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "attached.json").write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        open_model(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


def test_another_base_is_refused(model, tmp_path: Path) -> None:
    model.attach(louder())
    model.save(tmp_path / "out", form="attached")
    record = json.loads((tmp_path / "out" / "oubliette.json").read_text())
    record["base"]["fingerprint"] = "0" * 64
    (tmp_path / "out" / "oubliette.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="goes with a base of fingerprint 000000"):
        open_model(tmp_path / "out", device="cpu")
