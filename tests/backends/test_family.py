"""A family is a data file; classes that belong to none are named with those that do."""

from __future__ import annotations

import pytest

from oubliette.backends.family import families, family_of
from oubliette.core.errors import UserError


def test_families_are_data() -> None:
    assert {"sd", "sdxl"} <= set(families())
    family = family_of("StableDiffusionPipeline", "here")
    names = ["unet.a.attn2.to_k.weight", "unet.a.attn2.to_q.weight", "unet.a.attn1.to_k.weight"]
    assert family.members("text-facing", names) == names[:1]
    assert family.members("cross-attention", names) == names[:2]
    with pytest.raises(UserError, match=r"WonderPipeline.*StableDiffusionPipeline"):
        family_of("WonderPipeline", "here")
