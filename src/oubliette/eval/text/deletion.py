"""What a stream of deletions came to: FIT's forgetting degree and retained utility, record by record.

Xu et al. (FIT), 2026 (2601.21682). The score of a set of records is 100 times the geometric mean of the
probability of the answers, ROUGE-L F and teacher-forced token accuracy; how near it is to a reference's is a
number from 0 to 1 from which too much takes as well as too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.overlap import rouge_l

__all__ = ["Known", "closeness", "degree", "interpolated", "known", "score"]

_BATCH = 64  # questions asked at once


@dataclass(frozen=True)
class Known:
    """How well one record is known, each from 0 to 1: the geometric mean probability of the answer's tokens,
    ROUGE-L F of the greedy answer, and the share of its text's tokens that are the likeliest.
    """

    probability: float
    rouge: float
    accuracy: float


def known(model: Any, texts: Sequence[QA], questions: Sequence[QA], tokens: int = 24) -> dict[str, Known]:
    """Each record's, by id; `texts` and `questions` are one each, in the same order, answered with `tokens`.

    The end of the text counts in the probability, as in TOFU's, and not in the accuracy; words are not
    stemmed, as in all of this package's ROUGE.
    """
    asked = [row.question for row in questions]
    order = sorted(range(len(asked)), key=lambda place: (len(asked[place]), place))
    said: dict[int, str] = {}
    for first in range(0, len(order), _BATCH):
        some = order[first : first + _BATCH]
        said |= zip(some, model.respond([asked[place] for place in some], tokens), strict=True)
    parts = zip(questions, model.scores(questions), model.scores(texts), strict=True)
    return {
        row.id: Known(
            probability=float(np.exp(answer.log_p.mean())),
            rouge=rouge_l(row.answer, said[place]).f1,
            accuracy=float(text.answer.right.mean()),
        )
        for place, (row, answer, text) in enumerate(parts)
    }


def score(found: Mapping[str, Known], ids: Iterable[str]) -> float:
    """100 (mean probability x mean ROUGE x mean accuracy)^(1/3) of the records of these ids."""
    some = [found[name] for name in ids]
    parts = np.array([[one.probability, one.rouge, one.accuracy] for one in some])
    return float(100 * np.prod(parts.mean(axis=0)) ** (1 / 3))


def closeness(value: float, reference: float) -> float:
    """max(0, 1 - |value / reference - 1|), and 0 where the reference is 0: F.D. and R.U., over- and
    undershooting alike.
    """
    return 0.0 if reference == 0 else max(0.0, 1.0 - abs(value / reference - 1.0))


def interpolated(start: float, end: float, done: float) -> float:
    """The reference after a share `done` of the requests, between what it was at first and gold's score."""
    return start + done * (end - start)


def degree(
    found: Mapping[str, Known],
    ids: Sequence[str],
    start: Mapping[str, Known],
    end: Mapping[str, Known],
    part: Sequence[str],
    done: float,
) -> float:
    """`closeness` of the score on `ids` to the interpolated reference: `start` and `end` are scored on the
    whole `part` (the forget or the retain half), as FIT's are.
    """
    return closeness(score(found, ids), interpolated(score(start, part), score(end, part), done))
