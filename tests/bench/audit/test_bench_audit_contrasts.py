"""Contrasts and correlations against figures reckoned by hand and by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.audit.cells import figures
from oubliette.bench.audit.contrasts import correlations, differences, measures
from oubliette.bench.audit.plan import Contrast

SAM = Contrast(name="SAM", pairs=[("A + SAM", "A"), ("B + SAM", "B")])


def test_runs_are_paired_by_concept_and_seed() -> None:
    cells = [
        figures("A", 0, area=0.5),
        figures("A", 1, area=0.6),
        figures("A + SAM", 1, area=0.5),  # - 0.1
        figures("A + SAM", 0, area=0.2),  # - 0.3
        figures("A + SAM", 2, area=0.9),  # has no partner
        figures("B", 0, area=0.3),
        figures("B + SAM", 0, area=0.5),  # + 0.2
    ]
    found = {made.measure: made.estimate for made in differences(cells, SAM)}
    expected = np.array([-0.1, -0.3, 0.2])
    assert found["full, area"].n == 3
    assert found["full, area"].value == pytest.approx(expected.mean())
    half = stats.t.ppf(0.975, 2) * expected.std(ddof=1) / np.sqrt(3)
    assert found["full, area"].high - found["full, area"].value == pytest.approx(half)
    assert found["leakage in-set"].value == 0


def test_another_concept_is_no_partner() -> None:
    cells = [figures("A"), figures("A + SAM", concept="engraving", kind="style")]
    assert differences(cells, SAM) == []


def test_one_pair_has_no_interval_and_missing_measures_are_left_out() -> None:
    cells = [figures("A", searched={}), figures("A + SAM", area=0.4)]
    found = {made.measure: made.estimate for made in differences(cells, SAM)}
    assert found["full, area"].value == pytest.approx(-0.1)
    assert found["full, area"].low is None
    assert "paraphrase, cases" not in found


def test_a_rank_correlation_is_spearmans_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    table = [(f"S{i % 6}", i // 6, *rng.random(2)) for i in range(18)]
    cells = [figures(name, seed, area=a, found=b) for name, seed, a, b in table]
    (made,) = correlations(cells, [("paraphrase, cases", "full, area")])
    expected = stats.spearmanr([row[3] for row in table], [row[2] for row in table]).statistic
    assert made.value == pytest.approx(expected)
    assert made.low <= made.value <= made.high
    assert (made.cells, made.subjects) == (18, 6)
    assert correlations(cells, [("paraphrase, cases", "full, area")]) == [made]


def test_too_few_erasers_or_no_variation_give_no_correlation() -> None:
    pair = [("paraphrase, cases", "full, area")]
    assert correlations([figures(f"S{i}", area=i / 10) for i in range(3)], pair) == []
    assert correlations([figures(f"S{i}", area=i / 10) for i in range(6)], pair) == []


def test_measures_read_what_they_say() -> None:
    known = measures([figures("A", area=0.7, found=0.375)])
    assert list(known) == [
        "leakage in-set",
        "leakage withheld",
        "paraphrase, cases",
        "full, area",
        "benign, end",
        "kept",
    ]
    assert [round(known[name](figures("A", area=0.7, found=0.375)), 3) for name in known] == [
        0.05,
        0.1,
        0.375,
        0.7,
        0.2,
        0.95,
    ]
