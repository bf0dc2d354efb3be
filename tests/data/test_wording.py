"""Words for pictures and for answers: each has its own, and none of the other's."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from oubliette.audit.sentences import inconclusive, not_checked
from oubliette.data.concept import FACTS, KINDS, OTHER_FACTS
from oubliette.data.wording import ANSWERS, PICTURES, wording_of
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import describe_share


@pytest.mark.parametrize("kind", [*KINDS, FACTS, OTHER_FACTS])
def test_the_kind_says_which(kind: str) -> None:
    assert wording_of(kind) is (ANSWERS if kind in (FACTS, OTHER_FACTS) else PICTURES)


def test_no_answer_is_drawn_and_no_picture_said() -> None:
    answers = " ".join(str(word) for word in asdict(ANSWERS).values())
    assert not any(word in answers for word in ("pict", "draw", "steps", "guidance"))
    pictures = " ".join(str(word) for word in asdict(PICTURES).values())
    assert not any(word in pictures for word in ("answer", "says", "row"))


def test_sentences_are_in_the_words_given() -> None:
    assert not_checked("car", PICTURES).endswith("can tell whether “car” is in a picture.")
    assert not_checked("facts", ANSWERS).endswith("can tell whether “facts” is in an answer.")
    assert "More pictures, or more runs" in inconclusive("car", PICTURES)
    assert "More answers, or more runs" in inconclusive("facts", ANSWERS)
    wide = Estimate(0.5, -1.0, 2.0, 3)
    assert describe_share(wide).endswith("too few pictures")
    assert describe_share(wide, ANSWERS).endswith("too few answers")
