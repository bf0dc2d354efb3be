"""How many pictures a check after an erasure takes, and that a clean result is then called clean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import oubliette.workflows.check as checking
import oubliette.workflows.pictures as pictures
from oubliette.api import load
from oubliette.data.concepts import make_concepts
from oubliette.eval.leakage import leakage
from oubliette.eval.verdict import SUPPRESSED, Bounds, decide
from oubliette.workflows.modality import PICTURES

#: Seconds of one of nano's pictures on two idle cores, rounded up: 64 take 5 s.
PACE = 0.08


@pytest.fixture(scope="module")
def nano() -> Any:
    return load("nano")


class Knowing:
    """A judge that covers everything and is asked nothing."""

    name, fingerprint, threshold = "knowing", "0", None

    def covers(self, concept: Any) -> bool:
        return True

    def hits(self, pictures: np.ndarray, concept: Any) -> np.ndarray:
        raise AssertionError("nothing was drawn")


class Unchanged:
    """Weights that were never changed."""

    def originals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def size_at(nano: Any, pace: float, monkeypatch: pytest.MonkeyPatch) -> tuple[int | None, float]:
    monkeypatch.setattr(pictures, "seconds_a_picture", lambda *a, **b: pace)
    car = make_concepts(nano, ["car"])
    size, _ = checking.fitted(nano, Unchanged(), car, mode="auto", judges=[Knowing()])  # type: ignore[arg-type]
    before = checking.OriginalView(nano, Unchanged())  # type: ignore[arg-type]
    return size, 0.0 if size is None else pace * planned(before, car, size)


def planned(before: Any, concepts: Any, size: int) -> int:
    evaluator = PICTURES.checker(before, concepts, [Knowing()], {}, None)
    assert not isinstance(evaluator, str)
    return evaluator.plan(**PICTURES.sized(size), seed=0).pictures(1)


def verdict_of(hits: int, size: int) -> str:
    """Where the base shows nearly all and the floor is nothing, as on nano."""

    def mask(count: int) -> np.ndarray:
        return np.arange(size) < count

    found = [
        leakage(mask(hits), mask(round(0.97 * size)), mask(0), judge="j", split=split)
        for split in ("in-set", "withheld")
    ]
    return decide(found, None, Bounds()).word


def test_within_its_minute_auto_calls_a_clean_result_clean(
    nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, seconds = size_at(nano, PACE, monkeypatch)
    assert size is not None
    assert size >= 80
    assert seconds <= checking.AUTO_SECONDS
    assert verdict_of(1, size) == verdict_of(2, size) == SUPPRESSED


def test_a_slower_model_gets_fewer_and_a_much_slower_one_none(
    nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [size_at(nano, pace, monkeypatch) for pace in (0.05, 0.1, 0.15, 0.25, 1.0)]
    found = [size for size, _ in sizes]
    assert found[-1] is None
    there = [size for size in found if size is not None]
    assert there == sorted(there, reverse=True)
    assert len(set(there)) > 2
    assert all(seconds <= checking.AUTO_SECONDS for _, seconds in sizes)


@pytest.mark.parametrize(("hits", "size"), [(0, 40), (1, 64), (2, 96)])
def test_what_the_sizes_are_for(hits: int, size: int) -> None:
    assert size in PICTURES.sizes()
    assert verdict_of(hits, size) == SUPPRESSED
