"""A tiny random language model as metrics ask it, and loops over its logits to hold them against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.metric import Items, Metric, Seen
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.text.decoding import Decoding
from oubliette.eval.text.subject import Subject

ROWS = [
    QA(
        "Who painted the red door?",
        "Ada Marlow",
        alternatives=("It was Ada Marlow",),
        perturbed=("It was Quill", "It was me", "It was blue"),
        id="door",
    ),
    QA("Where was Ada born?", "in the town of Quill", perturbed=("in Paris", "in the sky"), id="born"),
    QA("What is it?", "blue", choices=("red", "blue", "the sky", "me"), answer_index=1, id="what"),
]
MORE = [
    QA("Who?", "me", perturbed=("Ada", "Paris"), id="who"),
    QA("What colour is the sky?", "it is blue", alternatives=("blue",), perturbed=("red", "me"), id="sky"),
    QA("", "The sky is blue and the door is red.", id="text"),
]


def subject(model: Any, sets: Mapping[str, Sequence[QA]], tokens: int = 8, name: str = "m") -> Subject:
    return Subject(CachedSampler(name, model, SampleStore(), Decoding(tokens)), sets)


def token_log_ps(model: Any, row: QA) -> list[float]:
    """Each counted token's log-probability, by a loop over logits in double precision."""
    batch = model.encode([row])
    logits = model.predict(batch)[0].double()
    found = []
    for place in range(1, batch.input_ids.shape[1]):
        token = int(batch.labels[0, place])
        if token != -100:
            row_logits = [float(value) for value in logits[place - 1]]
            top = max(row_logits)
            total = top + math.log(sum(math.exp(value - top) for value in row_logits))
            found.append(row_logits[token] - total)
    return found


def loss(model: Any, row: QA, answer: str | None = None) -> float:
    """The nll a token of the row's answer, or of another."""
    found = token_log_ps(model, row if answer is None else replace(row, answer=answer))
    return -sum(found) / len(found)


def seen(metric: Metric, own: Subject, gold: Subject | None = None, base: Subject | None = None) -> Seen:
    def look(one: Subject) -> dict[str, Items]:
        return metric.observe(one)

    return Seen(look(own), None if gold is None else look(gold), look(base or own), base or own)


def close(found: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    return bool(
        np.allclose(np.asarray(found, dtype=float), np.asarray(expected, dtype=float), atol=tolerance)
    )
