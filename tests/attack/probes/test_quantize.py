"""Rounding is held against its definition: a grid of levels, and the nearest of them, number by number."""

from __future__ import annotations

import pytest
import torch

from oubliette.attack.probes.quantize import NF4, Quantize, nf4, round_to_nearest
from oubliette.core.errors import UserError
from oubliette.core.validation import validated


def weight(rows: int = 5, columns: int = 23, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=rng) * torch.tensor([1e-3, 0.1, 1.0, 7.0, 50.0])[:rows, None]


def nearest(numbers: list[float], levels: list[float]) -> list[float]:
    """Each number's nearest level in double precision, by looking at all."""
    return [min(levels, key=lambda level: abs(level - number)) for number in numbers]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [None, 8, 23, 100])
def test_round_to_nearest_is_the_nearest_of_the_levels_of_its_group(bits: int, group: int | None) -> None:
    made, given = round_to_nearest(weight(), bits, group), weight()
    width, top = group or 23, 2 ** (bits - 1) - 1
    for row in range(5):
        for start in range(0, 23, width):
            own = given[row, start : start + width].double().tolist()
            step = max(map(abs, own)) / top
            expected = nearest(own, [step * level for level in range(-top, top + 1)])
            found = made[row, start : start + width].double().tolist()
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * step)


def test_the_grid_has_as_many_levels_as_the_bits_say_and_is_symmetric() -> None:
    row = torch.linspace(-1, 1, 10_001)[None]
    for bits in (2, 4, 8):
        levels = round_to_nearest(row, bits).unique()
        assert len(levels) == 2**bits - 1
        assert torch.equal(levels, -levels.flip(0))
    assert torch.equal(round_to_nearest(-row, 4), -round_to_nearest(row, 4))


def test_what_lies_on_the_grid_stays_and_a_row_of_zeros_too() -> None:
    grid = torch.tensor([[-7.0, -3, 0, 1, 7], [0, 0, 0, 0, 0], [3.5, 0, -0.5, 1, 2]])
    assert torch.equal(round_to_nearest(grid, 4), grid)
    assert torch.equal(round_to_nearest(weight(2, 6) * 0, 8), torch.zeros(2, 6))


def test_the_table_is_that_of_normal_quantiles() -> None:
    """QLoRA: levels above and below zero, each evenly in probability, over the largest."""
    from scipy.stats import norm

    offset = 0.5 * (1 - 1 / 32 + 1 - 1 / 30)
    above = [norm.ppf(offset + (0.5 - offset) * step / 8) for step in range(8)]
    below = [-norm.ppf(offset + (0.5 - offset) * step / 7) for step in range(7)]
    levels = sorted([*above, *below, 0.0])
    assert list(NF4) == pytest.approx([level / max(levels) for level in levels], abs=1e-6)


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_nf4_is_the_nearest_level_of_its_block_in_the_order_of_storage(block: int) -> None:
    made, given = nf4(weight(), block).flatten().tolist(), weight().flatten().double().tolist()
    for start in range(0, len(given), block):
        own = given[start : start + block]
        largest = max(map(abs, own))
        expected = nearest(own, [largest * level for level in NF4])
        assert made[start : start + block] == pytest.approx(expected, rel=1e-6, abs=1e-7 * largest)


def test_nf4_of_zeros_is_zeros_and_its_blocks_are_64_by_default() -> None:
    flat = torch.zeros(1, 130)
    flat[0, 70:] = torch.randn(60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(nf4(flat)[0, :64], torch.zeros(64))
    assert torch.equal(nf4(flat), nf4(flat, 64))
    assert not torch.equal(nf4(flat), nf4(flat, 32))


def test_nf4_is_that_of_bitsandbytes() -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    given = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    packed, state = library.quantize_4bit(given, blocksize=64, quant_type="nf4")
    assert torch.allclose(nf4(given), library.dequantize_4bit(packed, state), atol=1e-6)


def test_the_options_choose_scheme_bits_and_group() -> None:
    given = weight()
    for options, expected, words in (
        ({}, round_to_nearest(given, 4), "4 bits, a scale for each row"),
        ({"bits": 8}, round_to_nearest(given, 8), "8 bits, a scale for each row"),
        ({"bits": 3, "group": 8}, round_to_nearest(given, 3, 8), "3 bits, a scale for each 8 of a row"),
        ({"scheme": "nf4"}, nf4(given, 64), "NF4, blocks of 64"),
        ({"scheme": "nf4", "group": 16}, nf4(given, 16), "NF4, blocks of 16"),
    ):
        probe = Quantize(Quantize.Options(**options))
        assert torch.equal(probe.changed("any", given), expected)
        assert probe.words == words


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scheme": "nf4", "bits": 8}, "nf4 has 4 bits, found 8"),
        ({"bits": 1}, "'bits'"),
        ({"bits": 16}, "'bits'"),
        ({"group": 0}, "'group'"),
        ({"scheme": "gptq"}, "'scheme'"),
        ({"bit": 4}, "did you mean 'bits'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        validated(Quantize.Options, options, "probe 'quantize'")
