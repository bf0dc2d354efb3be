"""CLIP picking a name among many: by hand from its embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_judges import clip_folder, pictures

from oubliette.data.concept import Concept
from oubliette.eval.judge import Judge
from oubliette.eval.pictures.clip import open_clip_model
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.zero_shot import ZeroShotJudge, top_one

NAMES = {"object": ["car", "truck", "boat"], "style": ["neon"]}
CAR, BOAT = Concept("car", "object"), Concept("boat", "object")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipJudge:
    folder: Path = clip_folder(tmp_path_factory.mktemp("clip") / "tiny-clip")
    return ClipJudge(open_clip_model(str(folder)))


def test_the_nearest_of_all_names_is_hit(clip: ClipJudge) -> None:
    judge, shown = ZeroShotJudge(clip, NAMES), pictures(30)
    words = np.stack([clip.encode_name(name, "object") for name in NAMES["object"]])
    cosines = clip.clip.encode_pictures(shown) @ words.T
    hits = np.stack([judge.hits(shown, Concept(name, "object")) for name in NAMES["object"]])
    assert np.array_equal(hits.sum(0), np.ones(30))
    assert np.array_equal(hits.argmax(0), cosines.argmax(1))


def test_probabilities_are_the_softmax_at_the_clip_s_scale(clip: ClipJudge) -> None:
    judge, shown = ZeroShotJudge(clip, NAMES), pictures(5)
    words = np.stack([clip.encode_name(name, "object") for name in NAMES["object"]])
    logits = clip.clip.scale * (clip.clip.encode_pictures(shown) @ words.T)
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = np.stack([judge.probabilities(shown, Concept(name, "object")) for name in NAMES["object"]], 1)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_it_covers_what_is_among_its_names(clip: ClipJudge) -> None:
    judge = ZeroShotJudge(clip, NAMES)
    assert judge.covers(BOAT)
    assert not judge.covers(Concept("plane", "object"))
    assert not judge.covers(Concept("car", "picture", "style"))
    assert not judge.covers(Concept("Mira Voss", "person", "person"))
    assert isinstance(judge, Judge)
    assert judge.name == f"{clip.name} top-1"


def test_only_a_clip_is_turned_into_one(clip: ClipJudge) -> None:
    from fakes import ToyJudge

    toy = ToyJudge()
    assert top_one(toy, NAMES) is toy
    assert isinstance(top_one(clip, NAMES), ZeroShotJudge)
