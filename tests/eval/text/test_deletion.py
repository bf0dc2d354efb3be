"""Forgetting degree and retained utility against their definitions, and what is known against loops."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.data.questions import QA
from oubliette.eval.text.deletion import Known, closeness, degree, interpolated, known, score


@pytest.mark.parametrize(
    ("value", "reference", "found"),
    [
        (40.0, 40.0, 1.0),  # A = B
        (0.0, 40.0, 0.0),
        (80.0, 40.0, 0.0),  # 2 B
        (60.0, 40.0, 0.5),  # 1.5 B
        (20.0, 40.0, 0.5),
        (1000.0, 40.0, 0.0),
        (3.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_too_much_loses_as_too_little_does(value: float, reference: float, found: float) -> None:
    assert closeness(value, reference) == pytest.approx(found, abs=1e-12)


def test_the_piecewise_form_is_the_same() -> None:
    for value in (5.0, 30.0, 40.0, 50.0, 79.0, 90.0):
        piecewise = value / 40 if value <= 40 else 2 - value / 40 if value < 80 else 0.0
        assert closeness(value, 40.0) == pytest.approx(piecewise)


def test_the_score_is_a_hundred_times_the_geometric_mean_of_means() -> None:
    found = {"a": Known(0.5, 1.0, 0.25), "b": Known(1.0, 0.5, 0.75), "c": Known(0.0, 0.0, 0.0)}
    assert score(found, ["a", "b"]) == pytest.approx(100 * (0.75 * 0.75 * 0.5) ** (1 / 3))
    assert score(found, ["a"]) == pytest.approx(50.0)
    assert score(found, ["c"]) == 0.0


def test_the_reference_goes_from_the_start_to_gold_as_requests_go_by() -> None:
    assert [interpolated(80, 20, done) for done in (0, 0.25, 1)] == [80, 65, 20]
    start = {name: Known(0.8, 0.8, 0.8) for name in "abcd"}
    end = {name: Known(0.2, 0.2, 0.2) for name in "abcd"}
    now = {"a": Known(0.65, 0.65, 0.65), "b": Known(0.325, 0.325, 0.325), "c": Known(1.0, 1.0, 1.0)}
    assert degree(now, ["a"], start, end, "abcd", 0.25) == pytest.approx(1.0)
    assert degree(now, ["b"], start, end, "abcd", 0.25) == pytest.approx(0.5)
    assert degree(now, ["c"], start, end, "abcd", 1.0) == 0.0


def test_what_is_known_of_a_record_is_what_loops_find(tmp_path: Path) -> None:
    tiny_language.save(tmp_path / "model", "llama")
    model = LanguageBackend.open(tmp_path / "model", device="cpu")
    texts = [QA("", "Name: Ada Marlow", id="one"), QA("", "the sky", id="two")]
    asked = [QA("Who?", "Ada", id="one"), QA("What is it?", "it is blue", id="two")]
    found = known(model, texts, asked, tokens=5)
    assert list(found) == ["one", "two"]
    for text, question in zip(texts, asked, strict=True):
        batch = model.encode([question])
        logs = model.predict(batch)[0].log_softmax(dim=-1)
        at = [place for place in range(1, batch.labels.shape[1]) if batch.labels[0, place] >= 0]
        likelihood = sum(float(logs[place - 1, batch.labels[0, place]]) for place in at) / len(at)
        assert found[text.id].probability == pytest.approx(math.exp(likelihood), rel=1e-4)
        batch = model.encode([text])
        best = model.predict(batch)[0].argmax(dim=-1)
        ids = batch.input_ids[0]
        right = [
            bool(best[place - 1] == ids[place]) for place in range(1, len(ids) - 1)
        ]  # the end is left out
        assert found[text.id].accuracy == pytest.approx(sum(right) / len(right))
        said = model.respond([question.question], 5)[0].lower().split()
        shared = _common(question, said)
        words = question.answer.lower().split()
        expected = 0.0 if not shared else 2 * shared / (len(words) + len(said))
        assert found[text.id].rouge == pytest.approx(expected)


def _common(question: QA, said: list[str]) -> int:
    """By trying every subset of the answer's words."""
    words = question.answer.lower().split()
    best = 0
    for chosen in range(2 ** len(words)):
        some = [word for place, word in enumerate(words) if chosen >> place & 1]
        rest = iter(said)
        if all(word in rest for word in some):
            best = max(best, len(some))
    return best
