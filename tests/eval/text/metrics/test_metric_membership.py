"""Membership scores by loops, their AUC by counting pairs, PrivLeak against gold and of gold itself."""

from __future__ import annotations

import math
import zlib
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import MORE, ROWS, close, loss, seen, subject, token_log_ps

from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.metric import open_metric

FORGET = [*ROWS, *(QA(f"Where is {n}?", "in the town") for n in range(3))]
HOLDOUT = [*MORE, *(QA(f"Who is {n}?", "Quill Marlow") for n in range(4))]
SETS = {"forget": FORGET, "holdout": HOLDOUT, "retain": ROWS}


def values(name: str, model: Any, rows: list[QA]) -> np.ndarray:
    metric: Any = open_metric(name)
    return metric.values(subject(model, {"forget": rows}), rows)


def min_k(log_ps: list[float], k: float) -> float:
    low = sorted(log_ps)[: max(1, math.floor(k * len(log_ps)))]
    return -sum(low) / len(low)


def standardised(model: Any, row: QA) -> list[float]:
    batch = model.encode([row])
    log_p = model.predict(batch)[0].double().log_softmax(dim=-1)
    found = []
    for place in range(1, batch.input_ids.shape[1]):
        token = int(batch.labels[0, place])
        if token == -100:
            continue
        p, values_ = log_p[place - 1].exp(), log_p[place - 1]
        mean = float((p * values_).sum())
        variance = float((p * values_**2).sum()) - mean**2
        found.append((float(values_[token]) - mean) / math.sqrt(max(variance, 1e-6)))
    return found


def test_scores_by_loops(tiny_one: Any) -> None:
    rows = [*FORGET, *HOLDOUT]
    assert close(values("mia_loss", tiny_one, rows), [loss(tiny_one, row) for row in rows])
    lengths = [len(zlib.compress(row.answer.encode())) for row in rows]
    assert close(
        values("mia_zlib", tiny_one, rows),
        [loss(tiny_one, row) / length for row, length in zip(rows, lengths, strict=True)],
    )
    for name, k in (("mia_min_k", 0.4), ("mia_min_k:0.2", 0.2), ("mia_min_k:1", 1.0)):
        expected = [min_k(token_log_ps(tiny_one, row)[:-1], k) for row in rows]
        assert close(values(name, tiny_one, rows), expected)
    plus = [min_k(standardised(tiny_one, row)[:-1], 0.4) for row in rows]
    assert close(values("mia_min_k_plus", tiny_one, rows), plus, 1e-3)


def test_gradient_norms_are_those_of_backward_and_leave_nothing_behind(tiny_one: Any) -> None:
    found = values("mia_grad_norm", tiny_one, ROWS)
    tensors = tiny_one.tensors()
    assert not any(tensor.requires_grad or tensor.grad is not None for tensor in tensors.values())
    for row, norm in zip(ROWS, found, strict=True):
        batch = tiny_one.encode([row])
        tiny_one.model.requires_grad_(True)
        with torch.enable_grad():
            (-tiny_one.log_likelihood(tiny_one.predict(batch), batch)[0] / batch.counts()[0]).backward()
        norms = [0.0 if t.grad is None else float(t.grad.norm()) for t in tensors.values()]
        tiny_one.model.zero_grad(set_to_none=True)
        tiny_one.model.requires_grad_(False)
        assert norm == pytest.approx(sum(norms) / len(norms), rel=1e-4)


def test_a_tensor_without_a_gradient_counts_as_one_of_norm_zero() -> None:
    used, idle = (torch.nn.Parameter(torch.full((1,), 3.0)) for _ in range(2))
    model: Any = SimpleNamespace(
        tensors=lambda: {"used": used, "idle": idle},
        encode=lambda rows: SimpleNamespace(counts=lambda: [2]),
        predict=lambda batch: used,
        log_likelihood=lambda logits, batch: -4 * logits,
    )
    metric: Any = open_metric("mia_grad_norm")
    asked = SimpleNamespace(model=model, asked=nullcontext)
    assert metric.values(asked, [QA("q", "a")]).tolist() == [(4 / 2 + 0) / 2]


def pairs(forget: np.ndarray, holdout: np.ndarray) -> float:
    """How often a holdout row scores higher, by counting."""
    return float(np.mean([[(h > f) + 0.5 * (h == f) for f in forget] for h in holdout]))


@pytest.mark.parametrize("name", ["mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus", "mia_grad_norm"])
def test_the_area_is_that_of_pairs(tiny_one: Any, name: str) -> None:
    metric: Any = open_metric(name)
    asked = subject(tiny_one, SETS)
    (figure,) = metric.figures("m", seen(metric, asked))
    expected = pairs(metric.values(asked, FORGET), metric.values(asked, HOLDOUT))
    assert figure.value == pytest.approx(expected)
    assert figure.low <= figure.value <= figure.high
    assert (figure.better, figure.interval, figure.n) == ("0.5", "DeLong", len(FORGET) + len(HOLDOUT))
    assert list(figure.items)[:1] == ["forget/door"]
    assert list(figure.items)[-1].startswith("holdout/")


def test_the_reference_is_gold(tiny_one: Any, tiny_two: Any) -> None:
    metric: Any = open_metric("mia_reference")
    own, gold = (subject(model, SETS) for model in (tiny_one, tiny_two))
    (figure,) = metric.figures("m", seen(metric, own, gold))
    apart = [[loss(tiny_one, row) - loss(tiny_two, row) for row in rows] for rows in (FORGET, HOLDOUT)]
    assert figure.value == pytest.approx(pairs(np.array(apart[0]), np.array(apart[1])))
    (itself,) = metric.figures("gold", seen(metric, gold, gold))
    assert itself.value == 0.5


def test_privleak_by_pairs_and_zero_of_gold_itself(tiny_one: Any, tiny_two: Any) -> None:
    metric: Any = open_metric("privleak")
    own, gold = (subject(model, SETS) for model in (tiny_one, tiny_two))
    (figure,) = metric.figures("m", seen(metric, own, gold))

    def area(model: Any) -> float:  # a holdout row likelier: of a lower score
        scores = [
            np.array([min_k(token_log_ps(model, row)[:-1], 0.4) for row in rows])
            for rows in (FORGET, HOLDOUT)
        ]
        return 1 - pairs(*scores)

    ours, theirs = area(tiny_one), area(tiny_two)
    assert figure.value == pytest.approx(100 * (ours - theirs) / theirs)
    assert figure.note == f"AUC {ours:.3f}, gold's {theirs:.3f}"
    assert figure.low <= figure.value <= figure.high
    (itself,) = metric.figures("gold", seen(metric, gold, gold))
    assert (itself.value, itself.low, itself.high) == (0.0, 0.0, 0.0)


def test_what_was_learned_by_heart_is_strongly_negative() -> None:
    metric: Any = open_metric("privleak")
    known = {"forget": np.full(6, 0.1), "holdout": np.full(6, 5.0)}
    blank = {"forget": np.arange(6.0), "holdout": np.arange(6.0)}

    def of(scores: dict[str, np.ndarray]) -> Any:
        return {
            name: SimpleNamespace(values=v, names=tuple(map(str, range(6)))) for name, v in scores.items()
        }

    found = SimpleNamespace(own=of(known), gold=of(blank))
    (figure,) = metric.figures("m", found)
    assert figure.value == pytest.approx(-100)
    found = SimpleNamespace(own=of(blank), gold=of(known))
    (undefined,) = metric.figures("m", found)
    assert undefined.value is None


def test_min_k_takes_a_share_and_the_others_nothing() -> None:
    for bad in ("mia_min_k:0", "mia_min_k:1.5", "mia_min_k:few"):
        with pytest.raises(UserError, match="a share of the tokens above 0, at most 1"):
            open_metric(bad)
    with pytest.raises(UserError, match="takes nothing after ':', found '3'"):
        open_metric("mia_loss:3")


def test_a_holdout_is_asked_for() -> None:
    for name in ("mia_loss", "privleak"):
        with pytest.raises(
            UserError, match=f"'{name}': needs rows like those to forget .*--rows holdout=FILE"
        ):
            open_metric(name).check({"forget": FORGET, "retain": ROWS})
