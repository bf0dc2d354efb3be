"""Any labelled picture set becomes a pipeline that diffusers opens, a judge, a CLIP and a prompt bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.labelled import read_labelled
from oubliette.data.prompts import load_bank
from oubliette.workflows.world.training.class_captions import (
    PLAIN,
    TEMPLATES,
    WITHHELD,
    ClassCaptions,
    parse_groups,
)
from oubliette.workflows.world.training.picture_trainer import STEPS, PictureTrainer
from oubliette.workflows.world.training.pictures import planned_seconds, train_on_pictures

COLOURS = {"cherry": (210, 30, 40), "lime": (60, 200, 60), "plum": (120, 40, 150)}
GROUPS = {"fruit": ("cherry", "lime", "plum")}


def _square(colour: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    picture = np.full((32, 32, 3), 235, dtype=np.uint8)
    x, y = rng.integers(2, 14, size=2)
    picture[y : y + 16, x : x + 16] = np.clip(np.array(colour) + rng.integers(-20, 20, 3), 0, 255)
    return Image.fromarray(picture)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twenty squares, a subfolder a class."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for index in range(20):
            _square(colour, rng).save(folder / name / f"{index}.png")
    return folder


def test_a_tenth_of_every_class_is_held_out(squares: Path) -> None:
    found = read_labelled(squares, 32)
    assert found.classes == ("cherry", "lime", "plum")
    assert found.pictures.shape == (54, 32, 32, 3)
    assert np.bincount(found.labels).tolist() == [18, 18, 18]
    assert np.bincount(found.test_labels).tolist() == [2, 2, 2]
    every = {p.tobytes() for p in (*found.pictures, *found.test_pictures)}
    assert len(every) == 60  # nothing is in both parts
    assert found.fingerprint() == read_labelled(squares, 32).fingerprint()
    for index, name in enumerate(found.classes):
        middle = found.pictures[found.labels == index][:, 15, 15].mean(0)
        assert np.abs(middle - COLOURS[name]).max() < 15


def test_a_test_part_is_taken_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for part, count in (("train", 4), ("test", 3)):
        for name, colour in COLOURS.items():
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                _square(colour, rng).save(tmp_path / part / name / f"{index}.png")
    found = read_labelled(tmp_path, 32)
    assert (len(found.labels), len(found.test_labels)) == (12, 9)


def test_parquet_with_its_own_test_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import io

    import pyarrow.parquet as pq

    rng = np.random.default_rng(2)
    for part, count in (("train", 4), ("test", 2)):
        rows: dict[str, list[Any]] = {"image": [], "label": [], "text": []}
        for index, (name, colour) in enumerate(COLOURS.items()):
            for _ in range(count):
                buffer = io.BytesIO()
                _square(colour, rng).save(buffer, "PNG")
                rows["image"].append({"bytes": buffer.getvalue(), "path": None})
                rows["label"].append(index)
                rows["text"].append(name)
        pq.write_table(pa.table(rows), tmp_path / f"{part}.parquet")
    found = read_labelled(tmp_path, 32)
    assert (len(found.labels), len(found.test_labels)) == (12, 6)
    assert found.classes == tuple(sorted(COLOURS))
    alone = read_labelled(tmp_path / "train.parquet", 32)
    assert (len(alone.labels), len(alone.test_labels)) == (9, 3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a", "a"], "at least two are needed"),
        (["a", "a", "b"], "'b' has one picture"),
        (["a", "a", "none", "none"], "'none'"),
        ([f"caption {i}" for i in range(8)], "8 different captions on 8 pictures"),
        (["", "a", "a"], "1 of 3 pictures have no class"),
    ],
)
def test_what_is_no_labelled_set_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    rows = []
    for index, name in enumerate(names):
        _square((10, 20, 30), np.random.default_rng(index)).save(tmp_path / f"{index}.png")
        rows.append(json.dumps({"file_name": f"{index}.png", "text": name}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match=said):
        read_labelled(tmp_path, 32)


def test_captions_are_true_and_of_every_sort() -> None:
    words = ClassCaptions.of(list(COLOURS), GROUPS)
    rng = np.random.default_rng(0)
    found = [words.caption("lime", rng) for _ in range(3000)]
    assert all("cherry" not in text and "plum" not in text for text in found)
    named = np.mean(["lime" in text for text in found])
    grouped = np.mean(["fruit" in text for text in found])
    plain = np.mean([text in PLAIN for text in found])
    assert 0.66 < named < 0.74
    assert 0.17 < grouped < 0.23
    assert named + grouped + plain == pytest.approx(1.0)
    assert set(found) <= set(words.everything())


def test_groups_must_hold_classes_and_be_broader() -> None:
    with pytest.raises(UserError, match="cherry"):
        ClassCaptions.of(list(COLOURS), {"fruit": ["chery"]})
    with pytest.raises(UserError, match="itself a class"):
        ClassCaptions.of(list(COLOURS), {"lime": ["plum"]})


def test_groups_are_read_as_words_with_their_classes() -> None:
    assert parse_groups([]) is None
    assert parse_groups(["animal=cat, dog", "big vehicle=ship"]) == {
        "animal": ["cat", "dog"],
        "big vehicle": ["ship"],
    }
    for text in ("animal", "=cat", "animal=", "animal= ,"):
        with pytest.raises(UserError, match="animal=cat,dog"):
            parse_groups([text])


def test_a_cache_of_something_else_is_refused(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "vae").mkdir(parents=True)
    with pytest.raises(UserError, match="something else"):
        train_on_pictures(squares, tmp_path / "out", tmp_path / "cache")


def test_the_bank_keeps_withheld_templates_from_erasers(tmp_path: Path) -> None:
    assert not set(TEMPLATES) & set(WITHHELD)
    path = tmp_path / "bank.txt"
    path.write_text(ClassCaptions.of(list(COLOURS), GROUPS).bank())
    bank = load_bank(path)
    concept = Concept("plum", "fruit")
    pairs = bank.pairs(concept, 50, 0)
    assert all("plum" in target and "fruit" in anchor for target, anchor in pairs)
    withheld = set(bank.evaluation(concept, 50, "withheld"))
    assert not withheld & {target for target, _ in pairs}
    assert not any("plum" in text for text in bank.retain(concept, 200, 0))
    assert not any(text.startswith("look, ") for text in bank.retain(concept, 200, 0))


def test_a_handful_of_steps_gives_what_the_ecosystem_opens(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    from oubliette.eval.judge import open_judge
    from oubliette.workflows.world.training import picture_trainer

    # Narrow networks: what is tested is the line, not what it learns.
    monkeypatch.setitem(picture_trainer.CHANNELS, 32, [8, 16, 16])
    monkeypatch.setattr(picture_trainer, "UNET_CHANNELS", [16, 32])
    monkeypatch.setattr(picture_trainer, "VAE_BATCH", 8)
    monkeypatch.setattr(picture_trainer, "oracle_shape", lambda side: {"widths": [8, 16, 16, 16]})
    steps = dict.fromkeys(STEPS, 2) | {"oracle": 4}
    out, cache = tmp_path / "out", tmp_path / "cache"
    facts = train_on_pictures(squares, out, cache, steps=steps, groups=GROUPS)
    assert facts["classes"] == ["cherry", "lime", "plum"]
    assert facts["judge"]["n"] == 6
    assert json.loads((out / "classes.json").read_text())["judge"] == facts["judge"]

    pipe = StableDiffusionPipeline.from_pretrained(out / "model", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a photo of a lime", num_inference_steps=2, output_type="np", height=32, width=32).images
    assert drawn.shape == (1, 32, 32, 3)
    assert np.isfinite(drawn).all()

    pictures = (drawn * 255).astype(np.uint8)
    for folder in ("oracle", "clip"):
        judge = open_judge(str(out / folder))
        assert judge.covers(Concept("lime", "fruit"))
        assert judge.hits(pictures, Concept("lime", "fruit")).shape == (1,)
    assert not open_judge(str(out / "oracle")).covers(Concept("pear", "fruit"))

    with pytest.raises(UserError, match="exists already"):
        train_on_pictures(squares, out, cache, steps=steps, groups=GROUPS)
    with pytest.raises(UserError, match="belongs to another"):
        train_on_pictures(squares, tmp_path / "other", cache, steps=steps, seed=1, groups=GROUPS)
    # A finished stage is not run again, and the same models are written.
    again = train_on_pictures(squares, tmp_path / "again", cache, steps=steps, groups=GROUPS)
    assert again["judge"] == facts["judge"]
    weights = "model/unet/diffusion_pytorch_model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "again" / weights).read_bytes()


def test_what_is_asked_for_is_checked_before_anything_is_trained(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="33 px; use one of 32, 64, 128"):
        train_on_pictures(squares, tmp_path / "out", tmp_path / "cache", side=33)
    with pytest.raises(UserError, match="vae"):
        PictureTrainer(tmp_path / "cache", read_labelled(squares, 32), steps={"vea": 3})
    assert not (tmp_path / "cache").exists()


def test_draws_are_those_of_their_step_and_half_are_mirrored(squares: Path, tmp_path: Path) -> None:
    trainer = PictureTrainer(tmp_path / "cache", read_labelled(squares, 32))
    one, two = (trainer._draw(trainer._rng(0, 7), 40, shift=3) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
    plain, labels = trainer._draw(trainer._rng(0, 8), 200)
    own = {p.tobytes() for p in trainer.data.pictures}
    assert 0.35 < np.mean([p.tobytes() in own for p in plain]) < 0.65
    assert all(p.tobytes() in own or np.ascontiguousarray(p[:, ::-1]).tobytes() in own for p in plain)
    for picture, label in zip(plain, labels, strict=True):
        assert np.abs(picture[15, 15].astype(int) - COLOURS[trainer.data.classes[label]]).max() < 25


def test_the_plan_keeps_within_ninety_minutes() -> None:
    assert sum(planned_seconds().values()) < 90 * 60
    assert planned_seconds({"unet": 10})["unet"] < planned_seconds()["unet"]
