import math

import pytest

from oubliette.train.config import TrainConfig
from oubliette.train.schedule import learning_rate


def rates(**options) -> list[float]:
    config = TrainConfig(steps=10, learning_rate=1.0, **options)
    return [learning_rate(step, config) for step in range(11)]


def test_constant():
    assert rates() == [1.0] * 11
    assert rates(warm_up=4)[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_falls_to_zero_at_the_step_that_is_never_taken():
    assert rates(schedule="linear") == pytest.approx([1 - step / 10 for step in range(11)])
    assert rates(schedule="linear", warm_up=5)[5:] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])


def test_cosine():
    expected = [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(11)]
    assert rates(schedule="cosine") == pytest.approx(expected)


def test_a_floor_is_not_gone_below_and_leaves_the_warm_up_alone():
    found = rates(schedule="cosine", floor=0.1, warm_up=2)
    plain = rates(schedule="cosine", warm_up=2)
    assert found == [max(rate, 0.1) for rate in plain]
    assert rates(schedule="linear", floor=0.5)[5:] == [0.5] * 6
    assert rates(floor=0.1, warm_up=20)[0] == 0.05


def test_never_negative_beyond_the_end():
    config = TrainConfig(steps=10, schedule="linear")
    assert learning_rate(25, config) == 0
