"""The floor: chance pooled with gold, gold alone where that is asked, else the anchor."""

from __future__ import annotations

import numpy as np
import pytest

from oubliette.data.concept import FACTS
from oubliette.eval.floor import ground_of
from oubliette.eval.leakage import ON_ANCHOR

ABSENT, GOLD, ANCHOR = np.array([True, False, False]), np.array([True, True]), np.array([False])


def test_gold_takes_the_place_of_chance_where_there_is_gold() -> None:
    alone = ground_of(ABSENT, GOLD, ANCHOR, FACTS, gold_alone=True)
    assert alone.hits.tolist() == [True, True]
    assert alone.words == "gold's 2 of it"
    for gold in (None, GOLD[:0]):
        assert ground_of(ABSENT, gold, ANCHOR, FACTS, gold_alone=True).hits.tolist() == ABSENT.tolist()


def test_otherwise_they_are_pooled() -> None:
    pooled = ground_of(ABSENT, GOLD, ANCHOR, FACTS)
    assert pooled.hits.tolist() == [*ABSENT, *GOLD]
    assert pooled.words.startswith("the base's 3 answers of other")
    assert ground_of(None, None, ANCHOR, FACTS).words == ON_ANCHOR
    with pytest.raises(ValueError, match="absent"):
        ground_of(None, None, None, FACTS)
