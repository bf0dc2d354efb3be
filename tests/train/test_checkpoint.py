import pytest
import safetensors.torch
import torch

from oubliette.core.errors import UserError
from oubliette.train.checkpoint import has_checkpoint, read_checkpoint, write_checkpoint


def test_round_trip_keeps_every_bit(tmp_path):
    shared = torch.randn(4, 4)
    tensors = {"a": shared, "b": shared.t(), "c": torch.tensor(3.0), "d": torch.randn(3).bfloat16()}
    assert not has_checkpoint(tmp_path / "run")
    write_checkpoint(tmp_path / "run", tensors, {"step": 3, "x": [1, {"y": None}]})
    assert has_checkpoint(tmp_path / "run")
    found, facts = read_checkpoint(tmp_path / "run")
    assert facts == {"step": 3, "x": [1, {"y": None}]}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert all(found[name].dtype == tensors[name].dtype for name in tensors)


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, {"a": torch.zeros(1)}, {"step": 1})

    def fails(tensors, path, metadata):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(tmp_path, {"a": torch.ones(1)}, {"step": 2})
    assert read_checkpoint(tmp_path)[1] == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("place", [-1, -9])
def test_a_flipped_bit_is_found(tmp_path, place):
    write_checkpoint(tmp_path, {"a": torch.randn(4), "b": torch.ones(3)}, {"step": 1})
    path = tmp_path / "checkpoint.safetensors"
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        read_checkpoint(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"rubbish of some length")
    with pytest.raises(UserError, match="not a checkpoint"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(("old", "new"), [(b'\\"step\\": 3', b'\\"step\\": 2'), (b'"sha256"', b'"sha257"')])
def test_a_header_that_was_changed_is_refused(tmp_path, old, new):
    write_checkpoint(tmp_path, {"a": torch.ones(3)}, {"step": 3})
    path = tmp_path / "checkpoint.safetensors"
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    with pytest.raises(UserError, match=r"not as it was written|not a checkpoint"):
        read_checkpoint(tmp_path)
