"""Small steps on a model that is stored in 16 bits: what rounding eats is said, and float32 keeps it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.api import erase
from oubliette.backends import open_model
from oubliette.backends.files.changes import RoundingWarning, round_as_stored
from oubliette.cli import main
from oubliette.core.manifest import read_manifest
from oubliette.erase.result import EraseResult


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in bfloat16 and its question files; read only."""
    root = tmp_path_factory.mktemp("dtype")
    tiny_language.save(root / "base", "llama", dtype=torch.bfloat16)
    tiny_language.write_rows(root / "f.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "r.jsonl", tiny_language.RETAIN)
    return root


def erased(here: Path, rate: float, dtype: torch.dtype | None = None) -> EraseResult:
    options = [f"train.learning_rate={rate}", "train.weight_decay=0"]
    model = open_model(here / "base", device="cpu", dtype=dtype)
    sets: dict[str, Any] = {"forget": here / "f.jsonl", "retain": here / "r.jsonl"}
    return erase(model, method="npo", steps=2, overrides=options, show_progress=False, **sets)


def command(here: Path, out: Path, *more: str) -> int:
    sets = ["--forget", str(here / "f.jsonl"), "--retain", str(here / "r.jsonl"), "--steps", "2"]
    rate = ["--set", "train.learning_rate=1e-12", "--set", "train.weight_decay=0"]
    return main(
        ["erase", "--model", str(here / "base"), *sets, *rate, "--check", "off", "--out", str(out), *more]
    )


def test_an_update_that_is_lost_whole_is_no_success(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(RoundingWarning, match="whole update: what is saved is the base.*--save-dtype float32"):
        assert command(here, tmp_path / "out") == 3
    assert "nothing is erased" in capsys.readouterr().out
    assert read_manifest(tmp_path / "out")["rounding"] == {"lost": 1.0}
    base = open_model(here / "base", device="cpu")
    assert open_model(tmp_path / "out", device="cpu").fingerprint() == base.fingerprint()


def test_the_option_keeps_it(here: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RoundingWarning)
        assert command(here, tmp_path / "out", "--save-dtype", "float32") == 0
    assert "rounding" not in read_manifest(tmp_path / "out")
    base = open_model(here / "base", device="cpu")
    assert open_model(tmp_path / "out", device="cpu").fingerprint() != base.fingerprint()
    assert command(here, tmp_path / "x", "--save-dtype", "float31") == 2
    assert command(here, tmp_path / "x", "--save-dtype", "float32", "--save", "lora") == 2


@pytest.mark.parametrize("form", ["full", "delta"])
def test_a_model_held_in_16_bits_is_saved_from_its_masters(here: Path, tmp_path: Path, form: str) -> None:
    result = erased(here, 1e-7, torch.bfloat16)
    assert {tensor.dtype for tensor in result.model.tensors().values()} == {torch.bfloat16}
    with pytest.warns(RoundingWarning):  # the weights are rounded already: the loss is that of the masters
        result.save(tmp_path / "rounded", form=form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.save(tmp_path / "kept", form=form, dtype=torch.float32)
    kept, base = open_model(tmp_path / "kept", device="cpu"), open_model(here / "base", device="cpu")
    moved = {name: tensor - base.tensors()[name] for name, tensor in kept.tensors().items()}
    assert any(0 < float(change.abs().max()) < 1e-6 for change in moved.values())
    for name, tensor in result.model.tensors().items():
        assert torch.equal(kept.tensors()[name].bfloat16(), tensor)
    result.undo()
    result.save(tmp_path / "undone")
    assert read_manifest(tmp_path / "undone")["changed"] == []


def test_what_is_checked_is_what_was_saved(here: Path, tmp_path: Path) -> None:
    result = erased(here, 1e-4)
    with pytest.warns(RoundingWarning, match=r"eats \d+\.\d % of the update's norm"):
        result.save(tmp_path / "out")
    assert 0 < read_manifest(tmp_path / "out")["rounding"]["lost"] < 1
    saved = open_model(tmp_path / "out", device="cpu")
    assert saved.fingerprint() != result.model.fingerprint()
    round_as_stored(result.model, result.changed, None)
    assert saved.fingerprint() == result.model.fingerprint()
