"""How far a tensor moved, and the rank of the difference, against a whole singular value decomposition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from guard.toy_model import write
from oubliette.guard.verify.low_rank import Difference, difference
from oubliette.guard.verify.tensor_file import open_file


def between(tmp_path: Path, tuned: Tensor, base: Tensor) -> Difference:
    now, _ = open_file(write(tmp_path / "tuned.safetensors", {"w": tuned}))
    before, _ = open_file(write(tmp_path / "base.safetensors", {"w": base}))
    return difference(now["w"], before["w"])


def weights(*shape: int, seed: int = 0) -> Tensor:
    return 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adapter(rows: int, columns: int, rank: int) -> Tensor:
    return 0.1 * weights(rows, rank, seed=1) @ weights(rank, columns, seed=2) / rank**0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_merged_adapters_rank_is_found_in_every_dtype(
    tmp_path: Path, dtype: torch.dtype, rank: int
) -> None:
    base = weights(96, 200).double()
    # Large enough that a 16-bit format keeps every direction above its rounding.
    delta = 4 * weights(96, rank, seed=1).double() @ weights(rank, 200, seed=2).double() / rank**0.5
    found = between(tmp_path, (base + delta).to(dtype), base.to(dtype))
    assert found.rank == rank


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_merged_in_16_bits_and_stored_in_32(tmp_path: Path, dtype: torch.dtype) -> None:
    base = weights(96, 200).to(dtype)
    tuned = (base.float() + 40 * adapter(96, 200, 4)).to(dtype).float()
    assert between(tmp_path, tuned, base.float()).rank == 4


def test_size_is_that_of_the_whole_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oubliette.guard.verify.tensor_file._PIECE", 50)  # many pieces, none of them whole
    base, tuned = weights(24, 33), weights(24, 33, seed=5)
    found = between(tmp_path, tuned, base)
    exact = tuned.double() - base.double()
    assert found.max_abs == pytest.approx(float(exact.abs().max()), rel=1e-12)
    assert found.relative == pytest.approx(float(exact.norm() / base.double().norm()), rel=1e-12)
    assert found.rank is None  # of full rank


def test_pieces_do_not_change_the_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oubliette.guard.verify.tensor_file._PIECE", 64)
    base = weights(64, 48)
    assert between(tmp_path, base + adapter(64, 48, 3), base).rank == 3


def test_a_convolution_is_a_matrix_of_its_first_side(tmp_path: Path) -> None:
    base = weights(64, 16, 3, 3)
    delta = adapter(64, 144, 4).reshape(64, 16, 3, 3)
    assert between(tmp_path, base + delta, base).rank == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_full_fine_tuning_is_no_adapter(tmp_path: Path, dtype: torch.dtype) -> None:
    base = weights(80, 80)
    # Adam's first steps move every weight by about the learning rate, whatever the gradient.
    steps = 1e-3 * torch.sign(weights(80, 80, seed=9))
    assert between(tmp_path, (base + steps).to(dtype), base.to(dtype)).rank is None


def test_rank_above_a_quarter_of_the_side_is_no_sign_of_an_adapter(tmp_path: Path) -> None:
    base = weights(32, 32)
    assert between(tmp_path, base + adapter(32, 32, 8), base).rank == 8
    assert between(tmp_path, base + adapter(32, 32, 9), base).rank is None


def test_rounding_alone_is_no_adapter(tmp_path: Path) -> None:
    base = weights(64, 64)
    assert between(tmp_path, base.bfloat16().half(), base.half()).rank is None


def test_the_base_is_cast_first(tmp_path: Path) -> None:
    base = weights(16, 16)
    found = between(tmp_path, base.half(), base)
    assert (found.max_abs, found.relative) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(7,), (), (3, 4), (8, 0)])
def test_what_is_no_matrix_has_no_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    base = weights(*shape)
    if base.numel() == 0:
        return  # nothing can change in it, so nobody asks
    found = between(tmp_path, base + 1, base)
    assert found.rank is None
    assert found.max_abs == pytest.approx(1, rel=1e-5)


def test_values_that_are_not_finite_have_no_size(tmp_path: Path) -> None:
    base = weights(16, 16)
    for value in (float("nan"), float("inf")):
        tuned = base.clone()
        tuned[3, 3] = value
        assert between(tmp_path, tuned, base) == Difference(None, None, None)


def test_against_a_zero_base_there_is_no_relative_size(tmp_path: Path) -> None:
    found = between(tmp_path, torch.ones(4), torch.zeros(4))
    assert (found.max_abs, found.relative) == (1.0, None)
