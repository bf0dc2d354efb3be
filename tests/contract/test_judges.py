"""What every judge must satisfy: the interface, one answer a picture, each picture by itself, a stable
identity.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.judge import JUDGES, Judge, covering, default_judges, open_judge

CAR = Concept("car", "object", "object")


def _oracle(folder: Path) -> Judge:
    from tiny_judges import oracle

    from oubliette.eval.pictures.oracle_judge import OracleJudge

    return OracleJudge(oracle(), oracle().classes, fingerprint="2" * 64)


def _clip(folder: Path) -> Judge:
    from tiny_judges import clip_folder

    return open_judge(str(clip_folder(folder / "clip")))


def _classifier(folder: Path) -> Judge:
    from tiny_judges import classifier_folder

    return open_judge(f"classifier:{classifier_folder(folder / 'classifier')}")


def _embedded(name: str) -> Callable[[Path], Judge]:
    def make(folder: Path) -> Judge:
        embedded = pytest.importorskip("oubliette.world.embedded")
        if embedded.path(f"nano-{name}") is None:
            pytest.skip(f"nano-{name} is not in this installation")
        return open_judge(name, type("World", (), {"world": "picture"})())

    return make


MAKERS = {
    "oracle": _oracle,
    "clip": _clip,
    "classifier": _classifier,
    "embedded oracle": _embedded("oracle"),
    "embedded clip": _embedded("clip"),
}


def test_every_registered_judge_is_held_to_the_contract() -> None:
    assert set(JUDGES.names()) <= set(MAKERS)


@pytest.fixture(scope="module", params=MAKERS)
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return MAKERS[request.param](tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def shown() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)


def test_interface(judge: Judge) -> None:
    assert isinstance(judge, Judge)
    assert judge.name
    assert len(judge.fingerprint) >= 16
    assert judge.threshold is None or 0 <= judge.threshold <= 1


def test_one_boolean_a_picture(judge: Judge, shown: np.ndarray) -> None:
    assert judge.covers(CAR)
    hits = judge.hits(shown, CAR)
    assert hits.dtype == np.bool_
    assert hits.shape == (len(shown),)


def test_a_picture_is_judged_by_itself(judge: Judge, shown: np.ndarray) -> None:
    together = judge.hits(shown, CAR)
    alone = np.concatenate([judge.hits(shown[i : i + 1], CAR) for i in range(len(shown))])
    backwards = judge.hits(shown[::-1], CAR)[::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)


def test_judging_leaves_the_pictures_and_gives_the_same_again(judge: Judge, shown: np.ndarray) -> None:
    before = shown.copy()
    assert np.array_equal(judge.hits(shown, CAR), judge.hits(shown, CAR))
    assert np.array_equal(shown, before)


def test_what_is_no_picture_is_refused(judge: Judge) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, H, W, 3\)"):
        judge.hits(np.zeros((2, 8, 8, 3), np.float32), CAR)
    with pytest.raises(ValueError, match=r"uint8 \(n, H, W, 3\)"):
        judge.hits(np.zeros((8, 8, 3), np.uint8), CAR)


def test_a_judge_of_a_small_world_covers_only_that(judge: Judge) -> None:
    stranger = Concept("zeppelin mooring mast", "building", "object")
    assert covering([judge], stranger) == ([judge] if judge.name == "clip:clip" else [])


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    one, two = _classifier(tmp_path / "a"), _classifier(tmp_path / "b")
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != _clip(tmp_path).fingerprint


def test_classifier_knows_a_class_by_any_of_its_names(tmp_path: Path) -> None:
    judge = _classifier(tmp_path)
    for name, known in (
        ("automobile", True),
        ("Dustcart", True),
        ("garbage truck", True),
        ("garbage", False),
    ):
        assert judge.covers(Concept(name, "thing")) is known
    assert judge.covers(Concept("sedan", "thing", synonyms=("car",)))


def test_classifier_hits_are_the_best_class(tmp_path: Path, shown: np.ndarray) -> None:
    judge = _classifier(tmp_path)
    names = ("car", "truck", "dustcart")
    votes = np.stack([judge.hits(shown, Concept(name, "thing")) for name in names])
    assert (votes.sum(0) == 1).all()


def test_classifier_threshold(tmp_path: Path, shown: np.ndarray) -> None:
    judge = _classifier(tmp_path)
    judge.threshold = 1.0
    assert not any(judge.hits(shown, Concept(name, "thing")).any() for name in ("car", "truck", "dustcart"))


def test_clip_hits_are_its_probability_against_the_anchor(tmp_path: Path, shown: np.ndarray) -> None:
    from oubliette.eval.pictures.clip import clip_accuracy

    judge = _clip(tmp_path)
    clip = judge.clip  # type: ignore[attr-defined]
    seen = clip.encode_pictures(shown)
    expected = clip_accuracy(seen, clip.encode_word("car", "object"), clip.encode_word("object", "anchor"))
    assert np.array_equal(judge.hits(shown, CAR), expected)
    judge.threshold = 1.0
    assert not judge.hits(shown, CAR).any()


def test_oracle_hits_are_its_head(tmp_path: Path) -> None:
    judge = _oracle(tmp_path)
    shown = np.zeros((3, 4, 4, 3), np.uint8)
    shown[:, 0, 0, 0] = [0, 1, 2]
    assert judge.hits(shown, CAR).tolist() == [True, False, False]
    assert judge.hits(shown, Concept("neon", "picture", "style")).tolist() == [True, False, True]
    assert not judge.covers(Concept("Mira Voss", "person", "person"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("oracel", "did you mean 'oracle'"),
        ("", "an empty name was given"),
        ("clip", "name a model"),
        ("classifier", "name a folder or Hub id"),
        ("classifier:/nowhere/at/all", "could not be opened"),
    ],
)
def test_bad_names(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_judge(spec)


def test_a_folder_with_no_judge(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no judge that can be opened"):
        open_judge(str(tmp_path))


def test_a_folder_is_opened_by_what_lies_in_it(tmp_path: Path) -> None:
    from tiny_judges import classifier_folder

    assert open_judge(str(classifier_folder(tmp_path / "c"))).name == "classifier:c"


def test_no_world_no_default_judge() -> None:
    assert default_judges(type("Plain", (), {"world": None})()) == []
