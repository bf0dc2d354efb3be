"""CLIP figures by hand, and the opening of CLIP models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_judges import clip_folder, pictures

from oubliette.core.errors import UserError
from oubliette.eval.pictures import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip") / "tiny")


def test_score_accuracy_and_choice_by_hand() -> None:
    seen = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], np.float32)
    target, anchor = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    assert clip.clip_score(seen, target) == pytest.approx([2.5, 1.5, 0.0])
    assert clip.clip_score(seen, seen) == pytest.approx([2.5, 2.5, 2.5])
    assert clip.clip_accuracy(seen, target, anchor).tolist() == [True, False, False]
    assert clip.zero_shot(seen, np.stack([target, anchor])).tolist() == [0, 1, 1]
    assert clip.probability(seen, target, anchor, 1.0) == pytest.approx(
        [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(0.2)), 1 / (1 + np.exp(1))]
    )


def test_unit_rows() -> None:
    assert clip.unit(np.array([[3.0, 4.0], [0.0, 0.0]])) == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("template", "word", "text"),
    [
        ("a picture of {a}", "owl", "a picture of an owl"),
        ("a picture of {a}", "car", "a picture of a car"),
        ("a portrait of {}", "Mira Voss", "a portrait of Mira Voss"),
        ("{a} picture", "engraving", "an engraving picture"),
    ],
)
def test_templates(template: str, word: str, text: str) -> None:
    assert clip.fill(template, word) == text


def test_embeddings_equal_open_clips_own(folder: Path) -> None:
    import open_clip
    import torch
    from PIL import Image

    own = clip.open_clip_model(str(folder))
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    shown, texts = pictures(5), ["a car", "a truck"]
    with torch.no_grad():
        images = model.eval().encode_image(
            torch.stack([preprocess(Image.fromarray(p)) for p in shown]), normalize=True
        )
        words = model.encode_text(tokenizer(texts), normalize=True)
    assert np.allclose(own.encode_pictures(shown), images.numpy(), atol=1e-6)
    assert np.allclose(own.encode_texts(texts), words.numpy(), atol=1e-6)
    assert own.name == "tiny"
    assert own.scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_a_word_is_the_mean_over_its_templates(folder: Path) -> None:
    own = clip.open_clip_model(str(folder))
    texts = own.encode_texts(["a car", "a picture of a car", "a drawing of a car"])
    mean = texts.mean(0)
    assert np.allclose(own.encode_word("car", "object"), mean / np.linalg.norm(mean), atol=1e-6)


def test_the_batch_does_not_matter(folder: Path) -> None:
    own = clip.open_clip_model(str(folder))
    whole = own.features(pictures(7))
    own.batch = 2
    assert np.allclose(own.features(pictures(7)[::1]), whole, atol=1e-6)


def test_features_have_the_length_that_gives_kid_its_scale(folder: Path) -> None:
    own = clip.open_clip_model(str(folder))
    found = own.features(pictures(5))
    assert np.allclose((found**2).mean(1), 1.0, atol=1e-5)  # x.x / d = 1, so the kernel is (cosine + 1)^3
    cosines = own.encode_pictures(pictures(5)) @ own.encode_pictures(pictures(5)).T
    assert np.allclose(found @ found.T / found.shape[1], cosines, atol=1e-5)


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="pickled checkpoints are not opened"):
        clip.open_clip_model(str(tmp_path))


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no open_clip_config\.json"):
        clip.open_clip_model(str(tmp_path))
    with pytest.raises(UserError, match="no model 'ViT-Z-99/nowhere'"):
        clip.open_clip_model("ViT-Z-99/nowhere")
    with pytest.raises(UserError, match=r"known tags: .*openai"):
        clip.open_clip_model("ViT-B-32/nowhere")
