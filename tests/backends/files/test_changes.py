"""What counts as changed, and what rounding it costs, by definition."""

from __future__ import annotations

import pytest
import torch

from oubliette.backends.files.changes import RoundingWarning, changed_tensors
from oubliette.backends.files.stored import narrowed
from oubliette.core.errors import UserError


def test_rounding_loss_follows_its_definition() -> None:
    base = {"a": torch.randn(50).half(), "b": torch.randn(50).half()}
    now = {"a": base["a"].float() + 1e-3 * torch.randn(50), "b": base["b"].float()}
    lost = (now["a"] - now["a"].half().float()).norm() / (now["a"] - base["a"].float()).norm()
    with pytest.warns(RoundingWarning, match=f"{100 * float(lost):.1f} %"):
        changed = changed_tensors(now, base.__getitem__).tensors
    assert list(changed) == ["a"]
    with pytest.warns(RoundingWarning, match="the whole update: what is saved is the base"):
        tiny_step = changed_tensors({"a": base["a"].float() * (1 + 1e-6)}, base.__getitem__)
    assert tiny_step.tensors == {}
    assert tiny_step.lost == 1
    with pytest.raises(UserError, match="not finite"):
        changed_tensors({"a": torch.full((50,), 1e6)}, base.__getitem__)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [0, 1, 3, 1 << 18, (1 << 18) + 1, 600_000])
def test_a_tensor_is_narrowed_where_that_loses_nothing(dtype: torch.dtype, size: int) -> None:
    fits = torch.randn(size).to(dtype).float().reshape(-1, 1)
    assert torch.equal(narrowed(fits, dtype), fits.to(dtype))
    assert narrowed(fits, None) is fits
    assert narrowed(fits, torch.float32) is fits
    if size:
        fits[-1] = 1 + 2**-20
        assert narrowed(fits, dtype) is fits
        fits[-1] = float("nan")
        assert narrowed(fits, dtype) is fits
