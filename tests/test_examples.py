"""The examples as a user runs them, on a tiny pipeline under a mask."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.guard.mask import Mask

EXAMPLES = Path(__file__).parent.parent / "examples"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def given(tiny_folder, tmp_path_factory):
    """A model's folder, a folder of captioned pictures, a mask's folder, and the mask."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    rows = []
    for number in range(4):
        pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        rows.append(json.dumps({"file_name": f"{number}.png", "text": "a photo of a red car"}))
    (folder / "pictures" / "metadata.jsonl").write_text("\n".join(rows))
    model = DiffusionBackend.open(tiny_folder)
    mask = Mask.make(model, [*model.text_facing(), "unet.conv_in.weight", "unet.conv_in.bias"])
    mask.write(folder / "mask", card=False)
    return tiny_folder, folder / "pictures", folder / "mask", mask


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example, imported as running it would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def arguments(given, out: Path, *more: str, masked: bool = True) -> list[str]:
    model, pictures, mask, _ = given
    return [
        *("--pretrained_model_name_or_path", str(model), "--train_data_dir", str(pictures)),
        *("--output_dir", str(out), "--max_train_steps", "2", "--train_batch_size", "2", "--seed", "3"),
        *(("--mask", str(mask)) if masked else ()),
        *more,
    ]


@pytest.mark.parametrize("ema", [False, True])
def test_full_fine_tuning_leaves_frozen_bits_and_moves_the_others(given, tmp_path, monkeypatch, ema):
    module = script("train_text_to_image", monkeypatch)
    out = tmp_path / "out"
    module.main(arguments(given, out, "--learning_rate", "1e-3", *(["--use_ema"] if ema else [])))
    before, after = load_file(given[0] / UNET), load_file(out / UNET)
    frozen = {name.removeprefix("unet.") for name in given[3].names}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not moved & frozen
    assert len(moved) > 0.9 * (len(before) - len(frozen))
    DiffusionBackend.open(out)


def test_without_a_mask_the_same_tensors_move_and_a_wrong_mask_writes_nothing(given, tmp_path, monkeypatch):
    module = script("train_text_to_image", monkeypatch)
    module.main(arguments(given, tmp_path / "free", "--learning_rate", "1e-3", masked=False))
    before, after = load_file(given[0] / UNET), load_file(tmp_path / "free" / UNET)
    assert all(not torch.equal(before[name[5:]], after[name[5:]]) for name in given[3].names)
    tuned = (tmp_path / "free", *given[1:])
    with pytest.raises(UserError, match="not as the mask's base has them"):
        module.main(arguments(tuned, tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_the_lora_has_no_adapter_on_a_frozen_tensor(given, tmp_path, monkeypatch):
    module = script("train_text_to_image_lora", monkeypatch)
    module.main(arguments(given, tmp_path / "lora", "--rank", "2", "--learning_rate", "1e-2"))
    with safe_open(tmp_path / "lora" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        keys = list(file.keys())
        ups = [file.get_tensor(key) for key in keys if ".lora.up." in key or "lora_B" in key]
    on = {key.partition(".lora")[0] + ".weight" for key in keys}
    assert on
    assert not on & set(given[3].names)
    assert all("attn1" in name or ".to_q." in name or ".to_out." in name for name in on)
    assert any(bool(up.any()) for up in ups)  # B starts at zero: it was trained


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 1), (1, 2)])
def test_npo_in_a_trainer_minimises_this_packages_loss(tmp_path, monkeypatch, batch, accumulation):
    """At the original weights the loss is 2 log 2 / beta + w nll(retain), whatever a step is made of."""
    import tiny_language
    from oubliette.backends import open_model
    from oubliette.data.questions import QA

    folder = tiny_language.save(tmp_path / "base", "llama")
    kept = tiny_language.RETAIN[:2]
    for name, rows in (("forget", tiny_language.FORGET), ("retain", kept)):
        tiny_language.write_rows(tmp_path / f"{name}.jsonl", rows)
    trainer = script("train_npo", monkeypatch).main(
        [
            *("--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "out")),
            *("--forget", str(tmp_path / "forget.jsonl"), "--retain", str(tmp_path / "retain.jsonl")),
            *("--max_steps", "2", "--learning_rate", "1e-2", "--retain_weight", "0.5"),
            *("--per_device_train_batch_size", str(batch)),
            *("--gradient_accumulation_steps", str(accumulation)),
        ]
    )
    base, trained = open_model(folder, device="cpu"), open_model(tmp_path / "out", device="cpu")
    retain, forget = (base.encode([QA(*row) for row in rows]) for rows in (kept, tiny_language.FORGET))
    with torch.no_grad():
        nll = -(base.log_likelihood(base.predict(retain), retain) / retain.counts()).mean()
        before, after = (one.log_likelihood(one.predict(forget), forget).sum() for one in (base, trained))
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses[0] == pytest.approx(2 * np.log(2) / 0.1 + 0.5 * nll.item(), rel=1e-4)
    assert losses[1] < losses[0]
    assert after < before
