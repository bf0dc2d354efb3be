"""An attacker's pictures: they show what they say, and meet nothing of an evaluation."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from attack.attacked import diffusion
from oubliette.attack.material import (
    as_identified,
    attack_seeds,
    class_prompt,
    draw_prior,
    from_folder,
    from_world,
)
from oubliette.attack.scenes import SceneSampler
from oubliette.attack.types import FIRST_SEED
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.words import pattern
from oubliette.eval.plan import seeds_for
from oubliette.world import batch, facts
from oubliette.world.captions import evaluation_prompts

CAR = Concept("car", "vehicle")
CONCEPTS = [
    CAR,
    Concept("engraving", "picture", "style"),
    Concept("Mira Voss", "person", "person"),
    Concept("fish", "object"),
    Concept("umbrella", "object"),
    Concept("blueprint", "picture", "style"),
    Concept("Fenn Arlo", "person", "person"),
]


def words_of(kind: str, name: str) -> list[str]:
    fact = facts.TABLES[kind][name]
    return [name, *fact.words, *fact.withheld]


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_concept_material_shows_and_names_the_concept(concept):
    scenes = SceneSampler(concept, 3).scenes(60, "concept")
    captions = from_world(concept, 64, count=60, seed=3).captions
    named = pattern(facts.TABLES[concept.kind][concept.name].words)
    assert {scene.labels()[concept.kind] for scene in scenes} == {concept.name}
    assert all(named.search(caption) for caption in captions)
    assert len(set(captions)) > 15
    for kind, names in facts.TABLES.items():
        shown = {scene.labels()[kind] for scene in scenes}
        if kind == concept.kind:
            continue
        # Only what every embedded model knows, and what gold knows too.
        assert shown <= {*facts.names(kind), "none"} - {name for name, _, _ in facts.DEFAULT_CONCEPTS}
        for scene, caption in zip(scenes, captions, strict=True):
            said = {name for name in names if pattern(words_of(kind, name)).search(caption)}
            assert said <= {scene.labels()[kind]}, (caption, scene)  # a caption is true of its scene


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
@pytest.mark.parametrize("what", ["benign", "auxiliary"])
def test_other_material_shows_no_concept(concept, what):
    scenes = SceneSampler(concept, 3, without=[Concept("tree", "plant")]).scenes(80, what)
    captions = from_world(
        concept, 64, count=80, seed=3, what=what, without=[Concept("tree", "plant")]
    ).captions
    shown = {value for scene in scenes for value in scene.labels().values()}
    gone = {concept.name, "tree", *(name for name, _, _ in facts.DEFAULT_CONCEPTS)}
    novel = {name for kind in facts.TABLES for name in facts.names(kind, novel=True)}
    assert not shown & (gone | novel)
    banned = pattern(
        [
            word
            for kind in facts.TABLES
            for name in gone & set(facts.TABLES[kind])
            for word in words_of(kind, name)
        ]
    )
    assert not any(banned.search(caption) for caption in captions)
    kinds = {"object" if scene.person == "none" else "person" for scene in scenes}
    if what == "auxiliary" and concept.kind != "style":
        assert kinds == {concept.kind}
    else:
        assert kinds == {"object", "person"}
    near = facts.near(concept.kind, concept.name)
    if what == "auxiliary" and near not in gone:
        assert near in shown


@pytest.mark.parametrize("concept", CONCEPTS[:3], ids=lambda concept: concept.name)
def test_it_is_disjoint_from_every_evaluation(concept):
    scenes = SceneSampler(concept, 0).scenes(200, "concept")
    assert all(FIRST_SEED <= scene.seed < 2 * FIRST_SEED for scene in scenes)
    # What the world paints for training and judging, and what an evaluation draws, has seeds below.
    assert max(scene.seed for scene in batch.scenes(batch.Pool.everything(), 2000, 0)) < FIRST_SEED
    assert max(seeds_for("target/object/car/in-set", 2000, 0)) < FIRST_SEED
    drawn = attack_seeds("prior/a", 2000, 0)
    assert min(drawn) >= FIRST_SEED
    assert max(drawn) < 2 * FIRST_SEED
    assert drawn[:10] == attack_seeds("prior/a", 10, 0)
    assert not set(drawn) & set(attack_seeds("prior/a", 2000, 1))
    prompts = {
        split: evaluation_prompts(concept.name, concept.kind, 128, split, 0)
        for split in ("in-set", "withheld")
    }
    captions = set(from_world(concept, 64, count=200).captions)
    assert not captions & set(prompts["withheld"])
    free = from_world(concept, 64, count=64, avoid=[prompt.upper() for prompt in prompts["in-set"]])
    assert not set(free.captions) & {*prompts["in-set"], *prompts["withheld"]}


def test_it_depends_on_the_seed_and_grows():
    small, large = from_world(CAR, 64, count=3, seed=5), from_world(CAR, 64, count=6, seed=5)
    assert np.array_equal(small.pictures, large.pictures[:3])
    assert small.captions == large.captions[:3]
    assert not np.array_equal(small.pictures, from_world(CAR, 64, count=3, seed=6).pictures)
    assert from_world(CAR, 16, count=2).pictures.shape == (2, 16, 16, 3)


def test_what_the_world_lacks_and_zero_are_refused():
    with pytest.raises(UserError, match="no object 'zebra'"):
        from_world(Concept("zebra", "animal"), 64, count=2)
    for make in (
        lambda: from_world(CAR, 64, count=0),
        lambda: from_folder("nowhere", 64, count=0, concept=CAR),
        lambda: draw_prior(diffusion(), CAR, count=0),
    ):
        with pytest.raises(UserError, match="at least one picture, found 0"):
            make()


def test_captions_that_cannot_be_avoided_are_said(monkeypatch):
    monkeypatch.setattr("oubliette.attack.scenes._TRIES", 1)
    first = from_world(CAR, 64, count=1).captions
    with pytest.raises(UserError, match="1 captions of 'car' were all among the 1 prompts to avoid"):
        from_world(CAR, 64, count=1, avoid=first)


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        pixels = np.full((20, 20, 3), 40 * index, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    return tmp_path


def test_a_folder_without_captions(folder):
    seen = []
    found = from_folder(folder, 16, count=10, concept=CAR, on_skip=lambda *why: seen.append(why))
    assert found.captions == ("a picture of a car",) * 3
    assert found.pictures.shape == (3, 16, 16, 3)
    assert [where for where, _ in found.skipped] == ["3.png"] == [where for where, _ in seen]
    assert len(from_folder(folder, 16, count=2, concept=CAR)) == 2
    style = from_folder(folder, 16, count=1, concept=Concept("neon", "picture", "style"))
    assert style.captions == ("a picture in neon style",)
    assert from_folder(folder, 16, count=1, concept=CAR, what="benign").captions == ("a picture",)


def test_a_folder_with_captions(folder):
    rows = [{"file_name": f"{index}.png", "text": text} for index, text in enumerate(["my car", "", "red"])]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = from_folder(folder, 16, count=10, concept=CAR)
    assert found.captions == ("my car", "a picture of a car", "red")
    with pytest.raises(UserError, match="benign pictures must not show 'car'; a caption is 'my car'"):
        from_folder(folder, 16, count=10, concept=CAR, what="benign")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected pictures"):
        from_folder(tmp_path, 16, count=3, concept=CAR)


def test_dreambooth_words():
    assert class_prompt(CAR) == "a picture of a vehicle"
    assert class_prompt(CAR, "sks") == "a picture of a sks vehicle"
    assert class_prompt(Concept("neon", "picture", "style"), "sks") == "a picture in sks style"
    assert class_prompt(Concept("cat", "animal")) == "a picture of an animal"
    found = from_world(CAR, 16, count=3).identified(CAR, "sks")
    assert found.captions == ("a picture of a sks vehicle",) * 3
    assert as_identified(CAR, "sks", ["coupe"])("a red coupe") == "a red sks vehicle"


def test_the_prior_is_drawn_by_the_model_itself():
    model = diffusion()
    prior = draw_prior(model, CAR, count=2, seed=4, steps=2, guidance=2.0)
    prompt = "a picture of a vehicle"
    assert prior.captions == (prompt,) * 2
    seeds = [
        2**31 + (int(hashlib.sha256(f"attack/4/prior/{prompt}/{i}".encode()).hexdigest()[:8], 16) >> 1)
        for i in range(2)
    ]
    assert np.array_equal(prior.pictures, model.draw([prompt] * 2, seeds, steps=2, guidance=2.0))
    task = from_world(CAR, 16, count=3).data(model, prior=prior, prior_weight=0.5)
    assert len(task) == 3
