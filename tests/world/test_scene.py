"""The picture world draws what it says, the same bits every time, fast."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.world import facts
from oubliette.world.scene import Scene, paint, random_scene

SUBJECTS = [(name, "none") for name in facts.all_names("object")] + [
    ("none", p) for p in facts.all_names("person")
]


@pytest.mark.parametrize("style", facts.all_names("style"))
@pytest.mark.parametrize("subject", SUBJECTS)
def test_everything_can_be_painted_in_every_style(subject: tuple[str, str], style: str) -> None:
    colour = "red" if subject[1] == "none" else "none"
    picture = paint(Scene(*subject, style, colour, 7))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 8  # something is there


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_the_same_scene_has_the_same_bits(seed: int) -> None:
    scene = random_scene(np.random.default_rng(seed))
    assert np.array_equal(paint(scene), paint(scene))
    assert (scene.object == "none") != (scene.person == "none")


def test_the_seed_varies_the_picture() -> None:
    one, two = (paint(Scene("car", "none", "flat", "red", seed)) for seed in (1, 2))
    assert np.abs(one.astype(int) - two).mean() > 5


def test_known_scenes_hold_nothing_novel() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = random_scene(rng)
        for kind, name in (("object", scene.object), ("person", scene.person), ("style", scene.style)):
            assert name == "none" or not facts.TABLES[kind][name].novel


def test_colourless_styles_show_no_colour() -> None:
    assert Scene("car", "none", "engraving", "red", 0).labels()["colour"] == "none"
    assert Scene("car", "none", "flat", "red", 0).labels()["colour"] == "red"


def test_the_world_is_as_large_as_promised() -> None:
    assert len(facts.names("object")) >= 12
    assert len(facts.names("style")) >= 6
    assert len(facts.COLOURS) >= 6
    assert len(facts.names("person")) >= 8
    assert len(facts.names("object", novel=True)) >= 3
    assert len(facts.names("style", novel=True)) >= 2
    assert len(facts.names("person", novel=True)) >= 4
    for name, _, kind in facts.DEFAULT_CONCEPTS:
        assert facts.near(kind, name) in facts.names(kind)
    assert not {c[0] for c in facts.DEFAULT_CONCEPTS} & {c[0] for c in facts.DEVELOPMENT_CONCEPTS}


def test_at_least_150_pictures_a_second() -> None:
    rng = np.random.default_rng(1)
    scenes = [random_scene(rng) for _ in range(200)]
    started = time.process_time()
    for scene in scenes:
        paint(scene)
    assert 200 / (time.process_time() - started) > 150
