"""Folders that hold no oracle are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.world.oracle import OracleNet, load

GOOD = '{"classes": {"object": ["car", "none"]}, "side": 64}'


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"classes": 3}', '{"classes": {"object": 3}}', GOOD])
def test_a_folder_that_is_no_oracle_is_named(config: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "oracle.json").write_text(config)
    with pytest.raises(UserError, match=str(tmp_path)):  # no weights
        load(tmp_path)
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=str(tmp_path)):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(UserError, match=str(tmp_path)):
        load(tmp_path)


def test_an_oracle_opens(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "oracle.json").write_text(GOOD)
    net = OracleNet({"object": 2})
    save_file(
        {name: tensor.contiguous() for name, tensor in net.state_dict().items()},
        tmp_path / "model.safetensors",
    )
    assert load(tmp_path).classes == {"object": ["car", "none"]}
