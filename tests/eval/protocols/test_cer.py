"""SPM's CLIP error rate: by hand from embeddings, and what cannot be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CAR, NEON, ToyJudge, ToyModel
from hypothesis import given
from hypothesis import strategies as st
from tiny_judges import clip_folder

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.clip import open_clip_model
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.protocols.cer import ANCHOR, TEMPLATES, CerResult, cer, error_rate, read_templates
from oubliette.eval.sample_store import SampleStore


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipJudge:
    return ClipJudge(open_clip_model(str(clip_folder(tmp_path_factory.mktemp("clip") / "tiny-clip"))))


def test_scores_and_errors_by_hand() -> None:
    pictures = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    texts = np.array([[0.8, 0.6]] * 4, np.float32)
    anchors = np.array([[0.6, 0.8]] * 4, np.float32)
    score, missed = error_rate(pictures, texts, anchors)
    assert score == pytest.approx([2.0, 2.0, 1.5, 0.0])
    assert missed.tolist() == [False, False, True, True]  # both cut off at zero: a tie is an error


def test_against_the_empty_text_by_hand(clip: ClipJudge) -> None:
    cache = SampleStore()
    found = cer(ToyModel(), [CAR, NEON], clip, each=3, cache=cache)
    assert (found.against, found.templates, cache.drawn) == ("empty", "the package's own", 2 * 8 * 3)
    car = found.figures[0]
    assert (car.concept, car.templates, car.cer.n, car.score.n) == ("car", 8, 24, 24)
    model = ToyModel()
    cer(model, [CAR], clip, each=3)
    assert {prompt for prompt, _ in model.calls} == {t.replace("{}", "car") for t in TEMPLATES["object"]}
    shown = ToyModel().draw(*zip(*model.calls, strict=True))
    seen = clip.clip.encode_pictures(shown)
    name, nothing = clip.clip.encode_texts(["car", ""])
    mine, other = (2.5 * np.maximum(seen @ text, 0) for text in (name, nothing))
    assert car.cer.hits == int((mine <= other).sum())
    assert car.score.value == pytest.approx(mine.mean(), rel=1e-5)


def test_against_the_anchor_the_prompt_is_the_text(clip: ClipJudge) -> None:
    model = ToyModel()
    found = cer(model, [CAR], clip, each=2, against=ANCHOR)
    prompts, seeds = zip(*model.calls, strict=True)
    seen = clip.clip.encode_pictures(ToyModel().draw(prompts, seeds))
    texts = clip.clip.encode_texts(prompts)
    anchors = clip.clip.encode_texts([p.replace("a car", "an object") for p in prompts])
    assert found.figures[0].cer.hits == int(error_rate(seen, texts, anchors)[1].sum())


def test_more_pictures_extend_fewer(clip: ClipJudge) -> None:
    cache, model = SampleStore(), ToyModel()
    cer(model, [CAR], clip, each=2, cache=cache)
    cer(model, [CAR], clip, each=5, cache=cache)
    assert cache.drawn == 8 * 5


def test_it_comes_back_from_plain_data(clip: ClipJudge) -> None:
    found = cer(ToyModel(), [CAR], clip, each=1)
    assert CerResult.from_dict(found.to_dict()) == found
    with pytest.raises(UserError, match="CER: "):
        CerResult.from_dict({"model": 3})


def test_a_file_of_one_s_own(clip: ClipJudge, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\na {} on a hill\n\na {} by the sea\na {} by the sea\n")
    model = ToyModel()
    found = cer(model, [Concept("apple", "object")], clip, templates=path, each=1)
    assert [prompt for prompt, _ in model.calls] == ["an apple on a hill", "an apple by the sea"]
    assert (found.templates, found.figures[0].templates) == ("mine.txt", 2)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), max_size=6))
def test_any_file_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "templates.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        assert all("{}" in template for template in read_templates(path))
    except UserError:
        return


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {} here\nno slot\n", "line 2: has no slot"),
        (b"# nothing\n", "holds no templates"),
        (b"\xff\xfe", "not text in UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_bad_files(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_templates(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"each": 0}, "at least 1 picture a template"),
        ({"against": "anker"}, "did you mean 'anchor'"),
        ({"concepts": []}, "no concept was given"),
        ({"judge": ToyJudge()}, "toy is no CLIP"),
        ({"judge": None}, "name a model, as in clip:"),
    ],
)
def test_bad_calls(options: dict[str, Any], message: str, clip: ClipJudge) -> None:
    with pytest.raises(UserError, match=message):
        cer(**({"model": ToyModel(), "concepts": [CAR], "judge": clip} | options))
