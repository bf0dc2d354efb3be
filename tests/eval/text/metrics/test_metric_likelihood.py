"""Metrics of given answers against loops over the logits: choices, probability, truth ratio, memorisation."""

from __future__ import annotations

import math
import string
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from asked import MORE, ROWS, close, loss, seen, subject, token_log_ps
from scipy import stats

from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.metric import open_metric
from oubliette.eval.text.metrics.choices import options_of

SETS = {"forget": ROWS, "retain": MORE}


def values(name: str, model: Any, rows: list[QA]) -> np.ndarray:
    metric: Any = open_metric(name)
    return metric.values(subject(model, {"forget": rows}), rows)


def test_the_right_option_stands_where_the_question_says() -> None:
    assert options_of(ROWS[2]) == (("red", "blue", "the sky", "me"), 1)
    options, place = options_of(ROWS[0])
    assert options[place] == "It was Ada Marlow"
    assert [each for i, each in enumerate(options) if i != place] == list(ROWS[0].perturbed)
    places = {options_of(QA(f"{n}?", "a", perturbed=("b", "c")))[1] for n in range(40)}
    assert places == {0, 1, 2}


@pytest.mark.parametrize("kind", ["mcq", "mcq_norm", "mcq_letter"])
def test_choices_are_compared_by_the_sum_over_their_tokens(tiny_one: Any, kind: str) -> None:
    rows = [row for row in [*ROWS, *MORE] if row.wrong]
    expected = []
    for row in rows:
        options, right = options_of(row)
        scores = []
        for letter, option in zip(string.ascii_uppercase, options, strict=False):
            asked = replace(row, answer=option)
            if kind == "mcq_letter":
                lines = "".join(f"\n{a}. {b}" for a, b in zip(string.ascii_uppercase, options, strict=False))
                asked = replace(row, question=f"{row.question}{lines}\nAnswer:", answer=letter)
            total = sum(token_log_ps(tiny_one, asked)[:-1])  # the end of the text is no part of a choice
            scores.append(total / len(option) if kind == "mcq_norm" else total)
        expected.append(scores[right] == max(scores))
    found = values(kind, tiny_one, rows)
    assert found.dtype == bool
    assert found.tolist() == expected
    (figure, _) = open_metric(kind).figures("m", seen(open_metric(kind), subject(tiny_one, SETS)))
    assert figure.chance == pytest.approx((1 / 4 + 1 / 3 + 1 / 4) / 3)
    assert (figure.n, figure.interval, figure.better) == (3, "Wilson", "lower")


def test_a_tie_is_no_hit(tiny_one: Any) -> None:
    metric: Any = open_metric("mcq")
    metric.score = lambda log_p, option: 0.0
    assert not metric.values(subject(tiny_one, SETS), ROWS).any()


def test_probability_is_the_geometric_mean_over_tokens(tiny_one: Any) -> None:
    rows = [*ROWS, *MORE]
    assert close(values("probability", tiny_one, rows), [math.exp(-loss(tiny_one, row)) for row in rows])
    among = [
        math.exp(-loss(tiny_one, row))
        / (math.exp(-loss(tiny_one, row)) + sum(math.exp(-loss(tiny_one, row, w)) for w in row.wrong))
        for row in ROWS
    ]
    assert close(values("probability_choice", tiny_one, ROWS), among)
    assert close(values("perplexity", tiny_one, rows), [math.exp(loss(tiny_one, row)) for row in rows], 0.1)


def ratios(model: Any, rows: list[QA]) -> list[float]:
    found = []
    for row in rows:
        wrong = sum(loss(model, row, answer) for answer in row.wrong) / len(row.wrong)
        right = loss(model, row, row.alternatives[0] if row.alternatives else row.answer)
        found.append(math.exp(-wrong) / math.exp(-right))
    return found


def test_truth_ratio_and_its_two_reports(tiny_one: Any) -> None:
    metric = open_metric("truth_ratio")
    forget, retain = metric.figures("m", seen(metric, subject(tiny_one, SETS)))
    own = ratios(tiny_one, ROWS)
    assert close(list(forget.items.values()), own)
    assert list(forget.items) == ["door", "born", "what"]
    assert forget.value == pytest.approx(np.mean([min(r, 1 / r) for r in own]), abs=1e-4)
    kept = ratios(tiny_one, MORE[:2])
    assert retain.value == pytest.approx(np.mean([max(0, 1 - r) for r in kept]), abs=1e-4)
    assert (forget.better, retain.better, retain.n) == ("higher", "higher", 2)


def test_the_two_reports_of_ratios_on_either_side_of_one() -> None:
    metric: Any = open_metric("truth_ratio")
    found = np.array([0.5, 4.0])
    assert metric.aggregate("forget")(found, axis=-1) == pytest.approx((0.5 + 0.25) / 2)
    assert metric.aggregate("retain")(found, axis=-1) == pytest.approx((0.5 + 0.0) / 2)


def test_a_hopeless_ratio_stays_finite(tiny_one: Any) -> None:
    metric: Any = open_metric("truth_ratio")
    asked = subject(tiny_one, SETS)
    asked.scores = lambda rows: [  # type: ignore[method-assign]
        type("S", (), {"log_p": np.array([-4000.0 if row.answer == "blue" else -1.0])}) for row in rows
    ]
    with np.errstate(all="raise"):
        assert np.isfinite(metric.values(asked, ROWS)).all()
        among: Any = open_metric("probability_choice")
        assert among.values(asked, ROWS).min() == pytest.approx(0, abs=1e-300)


def test_forget_quality_is_scipy_s_test_and_one_for_gold(tiny_one: Any, tiny_two: Any) -> None:
    rows = [QA(f"Who is {n}?", "Ada", perturbed=("me", f"Quill {n}")) for n in range(12)]
    metric = open_metric("forget_quality")
    own, gold = (subject(model, {"forget": rows}) for model in (tiny_one, tiny_two))
    (figure,) = metric.figures("m", seen(metric, own, gold))
    expected = stats.ks_2samp(ratios(tiny_one, rows), ratios(tiny_two, rows)).pvalue
    assert figure.value == pytest.approx(expected, rel=1e-6)
    assert figure.note == f"log10 p = {math.log10(expected):.2f}"
    (itself,) = metric.figures("gold", seen(metric, gold, gold))
    assert itself.value == 1.0


def test_memorisation_by_loops(tiny_one: Any) -> None:
    rows = [*ROWS, *MORE]
    exact, strength = [], []
    for row in rows:
        batch = tiny_one.encode([row])
        best = tiny_one.predict(batch)[0].argmax(dim=-1)
        right = [
            int(best[place - 1]) == int(batch.labels[0, place])
            for place in range(1, batch.input_ids.shape[1])
            if int(batch.labels[0, place]) != -100
        ][:-1]
        exact.append(sum(right) / len(right))
        given = next(k for k in range(len(right) + 1) if all(right[k:]))
        strength.append(1 - given / len(right))
    assert close(values("exact_memorisation", tiny_one, rows), exact)
    assert close(values("extraction_strength", tiny_one, rows), strength)


@pytest.mark.parametrize(
    ("right", "exact", "strength"),
    [
        ([1, 1, 1, 1], 1.0, 1.0),
        ([0, 1, 1, 1], 0.75, 0.75),
        ([1, 0, 1, 1], 0.75, 0.5),
        ([1, 1, 1, 0], 0.75, 0.0),
        ([0, 0, 0, 0], 0.0, 0.0),
    ],
)
def test_what_must_be_given_for_the_rest(right: list[int], exact: float, strength: float) -> None:
    from types import SimpleNamespace

    scores = SimpleNamespace(answer=SimpleNamespace(right=np.array(right, dtype=bool)))
    asked: Any = SimpleNamespace(scores=lambda rows: [scores])
    assert open_metric("exact_memorisation").values(asked, [QA("q", "a")]) == [exact]  # type: ignore[attr-defined]
    assert open_metric("extraction_strength").values(asked, [QA("q", "a")]) == [strength]  # type: ignore[attr-defined]


def test_perplexity_is_the_geometric_mean_of_its_rows(tiny_one: Any) -> None:
    metric = open_metric("perplexity")
    forget, retain = metric.figures("m", seen(metric, subject(tiny_one, SETS)))
    assert forget.value == pytest.approx(math.exp(np.mean([loss(tiny_one, row) for row in ROWS])), rel=1e-4)
    assert retain.n == 3  # plain text counts
    assert (forget.better, retain.better) == ("higher", "lower")


def test_what_a_set_lacks_is_said_in_a_line() -> None:
    plain = [QA("q?", "a"), QA("", "text alone")]
    with pytest.raises(UserError, match=r"'truth_ratio': none of the 2 rows of forget has wrong answers"):
        open_metric("truth_ratio").check({"forget": plain, "retain": ROWS})
    (said,) = open_metric("mcq").check({"forget": ROWS, "retain": plain, "holdout": plain})
    assert "none of the 2 rows of retain has choices" in said
    with pytest.raises(UserError, match=r"'open_qa': none of the 1 rows of forget has a question that is"):
        open_metric("open_qa").check({"forget": [QA("q", "a", history=(("user", "hi"),))]})
    assert open_metric("perplexity").check({"forget": plain}) == []

    class Both(type(open_metric("mia_loss"))):  # type: ignore[misc]
        needs = ("wrong",)

    both = Both()
    both.name = "both"
    with pytest.raises(UserError, match="'both': none of the 2 rows of holdout has wrong answers"):
        both.check({"forget": ROWS, "holdout": plain})


def test_the_wording_is_held_against_the_key_words(tiny_one: Any) -> None:
    rows = [row for row in [*ROWS, *MORE] if not row.plain]
    expected = [loss(tiny_one, QA("", row.question)) / loss(tiny_one, row) for row in rows]
    assert close(values("template_ratio", tiny_one, rows), expected)
    metric = open_metric("template_ratio")
    figure = next(
        one for one in metric.figures("m", seen(metric, subject(tiny_one, SETS))) if one.set == "forget"
    )
    assert figure.value == pytest.approx(
        math.exp(sum(math.log(one) for one in expected[: len(ROWS)]) / len(ROWS)), rel=1e-4
    )
    with pytest.raises(UserError, match="a question"):
        metric.check({"forget": [QA("", "a text")]})
