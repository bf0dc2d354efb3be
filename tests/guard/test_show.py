"""What is frozen by block and layer, the picture of it, and the card for the Hub."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import oubliette
import tiny_language
from guard.toy_model import CONV, FROZEN, SHAPES, TO_K, TO_OUT, Toy, mask
from oubliette import guard
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.guard.card import BYPASSES, card_text
from oubliette.guard.mask import Mask
from oubliette.guard.show import picture, summary


def test_every_division_adds_up_to_the_whole() -> None:
    found = summary(mask())
    sizes = {name: math.prod(shape) for name, shape in SHAPES.items()}
    assert found.whole.parameters == sum(sizes.values())
    assert found.whole.frozen_parameters == sum(sizes[name] for name in FROZEN)
    cells = tuple(part for row in found.cells.values() for part in row.values())
    for division in (found.components, found.blocks, found.types, cells):
        for key in ("tensors", "frozen_tensors", "parameters", "frozen_parameters"):
            assert sum(getattr(part, key) for part in division) == getattr(found.whole, key)
    json.dumps(found.to_dict())


def test_blocks_are_in_the_order_in_which_a_picture_passes_them() -> None:
    found = {part.name: part for part in summary(mask()).blocks}
    order = ["conv_in", "down_blocks.0", "mid_block", "up_blocks.0", "conv_out"]
    assert list(found) == [f"unet.{name}" for name in order]
    down = found["unet.down_blocks.0"]
    assert (down.tensors, down.frozen_tensors) == (3, 2)
    assert down.parameter_share == (32 * 24 + 32 * 32) / (32 * 24 + 32 * 32 + 32)
    assert down.tensor_share == 2 / 3
    assert found["unet.mid_block"].parameter_share == 1
    kinds = summary(mask()).cells["unet.down_blocks.0"]
    assert kinds["attention"].frozen_tensors == 2
    assert {TO_K, TO_OUT, CONV} == set(mask().names)


def test_a_language_models_layers(tmp_path: Path) -> None:
    model = LanguageBackend.open(tiny_language.save(tmp_path / "llama", "llama"))
    made = Mask.make(model, [name for name in model.tensors() if "layers.1.mlp" in name])
    found = summary(made)
    shares = {part.name: part.frozen_tensors for part in found.blocks}
    assert shares["model.layers.1"] == 3
    assert shares["model.layers.0"] == 0
    assert [part.name for part in found.components] == ["model", "lm_head"]
    picture(made, tmp_path / "where.png")


def test_the_picture_of_nano(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    model = oubliette.load("nano")
    made = Mask.make(model, [name for name in model.tensors() if name.startswith("unet.mid_block")])
    guard.picture(made, tmp_path / "a.png")
    picture(made, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    # What is frozen is a dark blue, and so little else that there is one column of it.
    dark = (drawn[..., 2] - drawn[..., 0] > 110) & (drawn[..., 0] < 40)
    columns = np.flatnonzero(dark.any(axis=0))
    assert 0.05 < len(columns) / drawn.shape[1] < 0.12
    with pytest.raises(UserError, match="exists already"):
        picture(made, tmp_path / "a.png")
    with pytest.raises(UserError, match=r"cannot be written .*Not a directory"):
        picture(made, tmp_path / "a.png" / "c.png")
    picture(made, tmp_path / "deep" / "c.png")
    assert (tmp_path / "deep" / "c.png").read_bytes() == (tmp_path / "a.png").read_bytes()


# -- the card


def test_the_cards_header_is_the_hubs() -> None:
    text = card_text(mask(Toy(source="owner/model")), licence="apache-2.0")
    data = ModelCard(text).data.to_dict()
    assert data["library_name"] == "oubliette"
    assert data["base_model"] == "owner/model"
    assert data["license"] == "apache-2.0"
    assert "freeze-mask" in data["tags"]
    plain = ModelCard(card_text(mask())).data.to_dict()
    assert "license" not in plain  # the publisher's to say
    assert "base_model" not in plain  # no Hub id


def test_the_card_says_what_a_mask_is_not() -> None:
    text = card_text(mask())
    assert len(BYPASSES) == 9
    assert all(f"{place}. {line}" in text for place, line in enumerate(BYPASSES, 1))
    for said in (
        "binds whoever trains through a platform that enforces it and verifies",
        "open weights in a hostile hand",
        "tells an attacker where the concept lives",
        "Nothing was measured",
        mask().digest(),
    ):
        assert said in text
    told = card_text(mask(measured={"recoverable": "no, in 100 steps"}, learned={"learner": "a\n# b | `c`"}))
    assert "- recoverable: `no, in 100 steps`" in told
    assert "\n# b" not in told
