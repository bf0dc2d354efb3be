"""What goes with a model: in force in drawing or in every pass, in the fingerprint, saved, taken off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.attachment import ATTACHMENTS
from oubliette.backends.guidance import Guidance
from oubliette.backends.hooks import blocks_of, changed
from oubliette.backends.language import LanguageBackend
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


# -- what hooks a forward pass -------------------------------------------------------------------------------


class Shift:
    """Adds to what the first block puts out, of a UNet and of a language model alike."""

    name: ClassVar[str] = "shift"

    def __init__(self, by: torch.Tensor) -> None:
        self.by = by
        self.open = 0

    @classmethod
    def build(cls, settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Shift:
        return cls(tensors["by"])

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"by": self.by}

    @contextmanager
    def install(self, model: Any) -> Iterator[None]:
        if not torch.isfinite(self.by).all():
            raise UserError("not for this model")
        network = getattr(model, "model", None) or model.pipe.unet
        self.open += 1
        with changed(blocks_of(network), {0: lambda output: output + self.by}):
            yield
        self.open -= 1


@pytest.fixture(params=["diffusion", "language"])
def hooked(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path: Path) -> Any:
    ATTACHMENTS.register("shift", Shift)
    folder = tiny_folder if request.param == "diffusion" else tiny_language.save(tmp_path / "base", "llama")
    return open_model(folder, device="cpu")


def passed(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.rehearse(2)
        return found


def test_hooks_are_in_force_in_every_pass_until_they_are_taken_off(hooked: Any) -> None:
    plain = passed(hooked)
    own, other = Shift(torch.full((1,), 0.5)), Shift(torch.full((1,), -0.5))
    hooked.attach(own)
    one = passed(hooked)
    assert not torch.equal(one, plain)
    with pytest.raises(UserError, match="'shift' is attached already"):
        hooked.attach(other)
    with hooked.detached():
        assert torch.equal(passed(hooked), plain)
        assert hooked.attachment is None
    assert torch.equal(passed(hooked), one)

    def interrupted() -> None:
        with hooked.holding(other):
            assert not torch.equal(passed(hooked), one)
            assert (own.open, other.open) == (0, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(passed(hooked), one)
    assert (own.open, other.open) == (1, 0)
    hooked.hold(other)
    assert (own.open, other.open) == (0, 1)
    hooked.detach()
    assert torch.equal(passed(hooked), plain)
    assert (own.open, other.open) == (0, 0)


def test_what_cannot_be_installed_leaves_the_model_bare(hooked: Any) -> None:
    plain = passed(hooked)
    with pytest.raises(UserError, match="not for this model"):
        hooked.attach(Shift(torch.full((1,), torch.nan)))
    assert hooked.attachment is None
    assert torch.equal(passed(hooked), plain)


def test_hooks_are_saved_beside_the_base_and_opened_again(hooked: Any, tmp_path: Path) -> None:
    bare, plain = hooked.fingerprint(), passed(hooked)
    hooked.attach(Shift(torch.full((1,), 0.5)))
    found = passed(hooked)
    hooked.save(tmp_path / "out", form="attached", record={"method": "toy"})
    opened: Any = open_model(tmp_path / "out", device="cpu")
    assert torch.equal(passed(opened), found)
    assert opened.fingerprint() == hooked.fingerprint() != bare
    opened.save(tmp_path / "again", form="attached")
    record = json.loads((tmp_path / "again" / "oubliette.json").read_text())
    assert record["base"]["source"] == hooked.source
    for form in ("full", "delta", "lora"):
        with pytest.raises(UserError, match="which no weights hold: save it attached"):
            opened.save(tmp_path / form, form=form)
    with torch.no_grad():
        next(iter(hooked.tensors().values())).add_(1.0)
    with pytest.raises(UserError, match="weights were changed as well"):
        hooked.save(tmp_path / "no", form="attached")
    opened.detach()
    assert torch.equal(passed(opened), plain)
    with pytest.raises(UserError, match="nothing is attached"):
        opened.save(tmp_path / "no", form="attached")
    assert not (tmp_path / "no").exists()


def test_a_delta_is_a_base_too(tmp_path: Path) -> None:
    ATTACHMENTS.register("shift", Shift)
    model: Any = open_model(tiny_language.save(tmp_path / "base", "llama"), device="cpu")
    with torch.no_grad():
        model.tensors()["model.layers.0.mlp.up_proj.weight"].mul_(2)
    model.save(tmp_path / "delta", form="delta")
    opened: Any = open_model(tmp_path / "delta", device="cpu")
    opened.attach(Shift(torch.ones(1)))
    opened.save(tmp_path / "out", form="attached")
    assert torch.equal(passed(open_model(tmp_path / "out", device="cpu")), passed(opened))


def test_a_guide_has_no_hold_on_a_model_that_does_not_draw(tmp_path: Path) -> None:
    model: Any = open_model(tiny_language.save(tmp_path / "base", "llama"), device="cpu")
    with pytest.raises(UserError, match="'louder' guides a sampler, and this model has none"):
        model.attach(louder())
    assert model.attachment is None


def test_a_model_in_memory_has_no_base_to_go_with(tmp_path: Path) -> None:
    words = tiny_language.tokenizer()
    model = LanguageBackend(tiny_language.model("llama", len(words)), words)
    model.attach(Shift(torch.ones(1)))
    with pytest.raises(UserError, match="a model wrapped in memory has no base on disk to go with"):
        model.save(tmp_path / "out", form="attached")
