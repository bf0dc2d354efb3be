"""What counts as changed, and what rounding it costs, by definition."""

from __future__ import annotations

import pytest
import torch

from oubliette.backends.changes import RoundingWarning, changed_tensors
from oubliette.errors import UserError


def test_rounding_loss_follows_its_definition() -> None:
    base = {"a": torch.randn(50).half(), "b": torch.randn(50).half()}
    now = {"a": base["a"].float() + 1e-3 * torch.randn(50), "b": base["b"].float()}
    lost = (now["a"] - now["a"].half().float()).norm() / (now["a"] - base["a"].float()).norm()
    with pytest.warns(RoundingWarning, match=f"{float(lost):.1%}"):
        changed = changed_tensors(now, base.__getitem__).tensors
    assert list(changed) == ["a"]
    with pytest.warns(RoundingWarning, match="the whole update: what is saved is the base"):
        tiny_step = changed_tensors({"a": base["a"].float() * (1 + 1e-6)}, base.__getitem__)
    assert tiny_step.tensors == {}
    assert tiny_step.lost == 1
    with pytest.raises(UserError, match="not finite"):
        changed_tensors({"a": torch.full((50,), 1e6)}, base.__getitem__)
