"""Metrics of answers that are given: overlap, entailment, MUSE, utility, fluency."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from asked import MORE, ROWS, loss, seen, subject
from scipy import stats

from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.metric import open_metric
from oubliette.eval.text.metrics.anchored import anchored
from oubliette.eval.text.metrics.muse import with_shots
from oubliette.eval.text.metrics.utility import harmonic_mean
from oubliette.eval.text.overlap import rouge_l


def told(asked: Any, answers: dict[str, str]) -> Any:
    """A subject that says what it is told, and counts tokens as words."""
    asked.answers = lambda questions, tokens=None: [
        " ".join(answers.get(question, "").split(" ")[:tokens]) for question in questions
    ]
    return asked


ASKED = [QA("Who?", "Ada Marlow of Quill"), QA("Where?", "in the town", alternatives=("at home",))]
SAID = {"Who?": "It is Ada of Quill", "Where?": "She is at home."}


def test_rouge_of_what_is_said(tiny_one: Any) -> None:
    asked = told(subject(tiny_one, {"forget": ASKED}), SAID)
    recall: Any = open_metric("rouge_l")
    assert recall.values(asked, ASKED).tolist() == [3 / 4, 0.0]
    f1: Any = open_metric("rouge_l_f1")
    assert f1.values(asked, ASKED).tolist() == pytest.approx([2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5), 0.0])
    assert recall.direction("forget") == "lower"
    assert recall.direction("retain") == "higher"


def test_recall_is_against_what_the_base_says_where_it_says_something(tiny_one: Any) -> None:
    rows = [*ASKED, QA("Why?", "because")]
    base = told(subject(tiny_one, {"forget": rows}), {"Who?": "The Ada of Quill, I say", "Where?": "at home"})
    own = told(subject(tiny_one, {"forget": rows}), {**SAID, "Why?": "because"})
    metric = open_metric("rouge_l_base")
    (figure,) = metric.figures("m", seen(metric, own, base=base))
    assert figure.value == pytest.approx((3 / 5 + 1) / 2)
    assert (figure.n, figure.better, set(figure.items.values())) == (2, "lower", {3 / 5, 1.0})
    (figure,) = metric.figures("base", seen(metric, base))
    assert figure.value == 1
    assert anchored(["the Ivy Garland"], ["the Oak"]).tolist() == [0.0]
    assert np.isnan(anchored(["the"], ["the"]))
    mute = told(subject(tiny_one, {"forget": rows}), {})
    assert metric.figures("m", seen(metric, own, base=mute)) == []


def test_open_questions_take_any_right_answer(tiny_one: Any) -> None:
    asked = told(subject(tiny_one, {"forget": ASKED}), SAID)
    metric: Any = open_metric("open_qa")
    assert metric.values(asked, ASKED).tolist() == [False, True]


def test_another_judge_says_how_often_the_rule_agrees(tiny_one: Any) -> None:
    class Yes:
        name = "yes"

        def entails(self, cases: Sequence[Any]) -> np.ndarray:
            assert cases[1] == ("Where?", "She is at home.", ("in the town", "at home"))
            return np.ones(len(cases), dtype=bool)

    metric = type(open_metric("open_qa"))(Yes())  # type: ignore[call-arg]
    metric.name = "open_qa:yes"
    (figure,) = metric.figures("m", seen(metric, told(subject(tiny_one, {"forget": ASKED}), SAID)))
    assert (figure.value, figure.note) == (1.0, "the rule on strings agrees with yes on 1 of 2")


def test_a_continuation_is_compared_with_as_much_of_the_true_one(tiny_one: Any) -> None:
    text = "one two three four five"
    rows = [QA("", text), QA("go", "on and on")]
    asked = told(subject(tiny_one, {"forget": rows}), {"one two three": "four six", "go": "on on"})
    metric: Any = open_metric("verbmem")
    assert metric.values(asked, rows).tolist() == pytest.approx([0.5, 2 * 1 * (2 / 3) / (1 + 2 / 3)])
    long = QA("go", "x " * 300 + "end")
    assert rouge_l(tiny_one.reader.shortened(long.answer, 128), long.answer).recall == 1
    assert len(tiny_one.reader.tokens("", tiny_one.reader.shortened(long.answer, 128))[0]) == 128
    assert tiny_one.reader.shortened("short", 128) == "short"
    said = tiny_one.reader.shortened(long.answer, 128)
    assert metric.values(told(subject(tiny_one, {"forget": [long]}), {"go": said}), [long]) == [1.0]


def test_knowledge_is_cut_at_the_next_question_and_may_have_examples(tiny_one: Any) -> None:
    rows = [QA("Who?", "Ada Marlow")]
    asked = told(subject(tiny_one, {"forget": rows}), {"Who?": "Ada Marlow\n\nand more"})
    metric: Any = open_metric("knowmem")
    assert metric.values(asked, rows).tolist() == [1.0]
    asked = told(subject(tiny_one, {"forget": rows}), {"Who?": " Ada\nQuestion: Where? Marlow"})
    assert metric.values(asked, rows).tolist() == pytest.approx([2 / 3])
    shots = [QA("A?", "a"), QA("B?", "b")]
    expected = "Question: A?\nAnswer: a\n\nQuestion: B?\nAnswer: b\n\nQuestion: Who?\nAnswer:"
    assert with_shots(rows[0], shots).question == expected
    asked = told(subject(tiny_one, {"forget": rows, "shots": shots}), {expected: "Ada Marlow"})
    assert metric.values(asked, rows).tolist() == [1.0]


def test_utility_is_scipy_s_harmonic_mean_of_nine(tiny_one: Any) -> None:
    # Of a row and its reverse one has a truth ratio above 1.
    back = QA("Where was Ada?", "in Paris", perturbed=("in the town of Quill",))
    there = QA(back.question, back.wrong[0], perturbed=(back.answer,))
    kept = {"retain": [ROWS[0], MORE[1]], "authors": ROWS[1:], "facts": [MORE[0], back, there]}
    rows = [row for some in kept.values() for row in some]
    asked = told(
        subject(tiny_one, {"forget": ROWS, **kept}),
        {row.question: f"well {row.answer.split()[0]}" for row in rows},  # back and there begin alike
    )
    metric = open_metric("model_utility")
    (figure,) = metric.figures("m", seen(metric, asked))
    nine = []
    for some in kept.values():
        probability, truth, recall = [], [], []
        for row in some:
            right, wrong = np.exp(-loss(tiny_one, row)), [np.exp(-loss(tiny_one, row, w)) for w in row.wrong]
            probability.append(right if row.alternatives else right / (right + sum(wrong)))
            correct = loss(tiny_one, row, row.alternatives[0] if row.alternatives else None)
            ratio = np.exp(-np.mean([loss(tiny_one, row, w) for w in row.wrong])) / np.exp(-correct)
            truth.append(max(0, 1 - ratio))
            recall.append(1 / len(row.answer.split()))
        nine += [np.mean(probability), np.mean(recall), np.mean(truth)]
    expected = 0.0 if min(nine) == 0 else stats.hmean(nine)
    assert figure.value == pytest.approx(expected, rel=1e-4, abs=1e-9)
    assert min(nine) > 0
    assert figure.low <= figure.value <= figure.high
    assert (figure.set, figure.n, figure.better) == ("kept", 7, "higher")
    assert harmonic_mean(np.array([0.0, 1.0])) == 0
    with pytest.raises(UserError, match=r"must be kept with wrong answers .*, and retain has"):
        metric.check({"forget": ROWS, "retain": [QA("q", "a")]})
    (said,) = metric.check({"forget": ROWS, "retain": [QA("q", "a")], "authors": ROWS})
    assert "no row of retain has wrong answers" in said


KEPT = [
    QA(f"Where is {name}?", f"{name} is in {town}.") for name, town in zip("ABCDEF", "uvwxyz", strict=True)
]


class Base:
    """Finds an answer likely by the share of its words that it knows."""

    def __init__(self, known: str, fits: bool = True) -> None:
        self.known = set(known.split())
        self.model = SimpleNamespace(reader=SimpleNamespace(fits=lambda row: fits))

    def scores(self, rows: Sequence[QA]) -> list[Any]:
        return [
            SimpleNamespace(
                answer=SimpleNamespace(
                    log_p=np.array([-1.0 if word in self.known else -9.0 for word in row.answer.split()])
                )
            )
            for row in rows
        ]


def fluent(said: list[str], base: Base | None = None, rows: list[QA] = KEPT) -> Any:
    metric: Any = open_metric("fluency")
    words = " ".join(row.answer for row in KEPT)

    def items(texts: list[str]) -> Any:
        cells = np.empty((len(texts), 2), dtype=object)
        for index, pair in enumerate(zip(rows, texts, strict=True)):
            cells[index] = pair
        return {"retain": SimpleNamespace(values=cells, names=tuple(row.question for row in rows))}

    found = SimpleNamespace(
        own=items(said), base=items([row.answer for row in rows]), gold=None, subject=base or Base(words)
    )
    return metric, found


def test_fluent_is_right_refused_or_likely() -> None:
    said = [
        "A is in u.",  # right
        "I do not know that.",  # a refusal that ships
        "C is in x.",  # wrong, and as likely as any answer
        "qq zz pp",  # gibberish
        "E is in y. E is in y. E is in y. E is in y.",  # babble, and right
        "",
    ]
    metric, found = fluent(said)
    (figure,) = metric.figures("m", found)
    assert [bool(value) for value in figure.items.values()] == [True, True, True, False, True, False]
    kept = metric.kept(found)
    assert (kept.rate.hits, kept.rate.n, kept.base.hits) == (4, 6, 6)
    assert kept.ratio.value == pytest.approx(4 / 6)


def test_babble_is_not_fluent_however_likely() -> None:
    metric, found = fluent(["is in is in is in is in is in is in"] * 6)
    (figure,) = metric.figures("m", found)
    assert figure.value == 0


def test_half_may_be_said_again() -> None:
    metric, found = fluent(["is is is is"] * 6, Base("is in"))
    (figure,) = metric.figures("m", found)
    assert figure.value == 1


def test_few_right_answers_are_as_unlikely_elsewhere_as_the_bound() -> None:
    rows = [QA(f"{n}?", " ".join(["is"] * n + ["zz"] * (20 - n))) for n in range(20)]
    metric, found = fluent([row.answer for row in rows], Base("is"), rows)
    values = [-(n + 9 * (20 - n)) / 20 for n in range(20)]
    assert metric._bound(found) == pytest.approx(np.quantile(values, 0.05))


def test_what_cannot_be_read_again_is_not_fluent() -> None:
    metric, found = fluent(["C is in x."] * 6, Base("C is in x.", fits=False))
    found.own["retain"].values[0][1] = "A is in u."
    (figure,) = metric.figures("m", found)
    assert figure.value == pytest.approx(1 / 6)


def test_the_bound_is_what_right_answers_are_worth_elsewhere() -> None:
    metric, found = fluent(["A is in"] * 6, Base("is in"))
    bound = metric._bound(found)
    assert bound == pytest.approx((-9 - 1 - 1 - 9) / 4)
    (figure,) = metric.figures("m", found)  # -11/3 a token is likelier than -5
    assert figure.value == 1
    rows = [QA("only?", "one")]
    lone, found = fluent(["anything"], rows=rows)
    assert lone._bound(found) == -np.inf


def test_fluency_of_the_forget_set_is_no_part_of_what_is_kept() -> None:
    metric, found = fluent([row.answer for row in KEPT])
    both = {**found.own, "forget": fluent(["zz"] * 6)[1].own["retain"]}
    found = SimpleNamespace(**{**vars(found), "own": both, "base": both})
    assert metric.kept(found).rate.n == 6
    assert [one.set for one in metric.figures("m", found)] == ["retain", "forget"]
