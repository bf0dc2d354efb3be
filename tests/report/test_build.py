"""From evaluations and logs to the data of a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import CAR, NEON, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel

from oubliette.core.errors import UserError
from oubliette.eval.evaluate import compare
from oubliette.eval.grids import Picture, make_grids
from oubliette.eval.sample_store import SampleStore
from oubliette.report.build import load_snippet, make_curves, make_run, read_curves
from oubliette.report.data import ReportData
from oubliette.report.page import render


def test_grids_hold_the_same_prompt_and_seed_drawn_by_every_model() -> None:
    others = [name for name in THINGS if name not in ("car", "neon")]
    cache = SampleStore()
    models = {"good": ToyModel(others), "bad": ToyModel()}
    evaluation = compare(
        models,
        ToyModel(),
        [CAR, NEON],
        judges=[ToyJudge()],
        n=8,
        bank=ToyBank(),
        retained=RETAINED,
        near={"car": "truck"},
        controls=[("gold", ToyModel(others))],
        cache=cache,
    )
    drawn = cache.drawn
    grids = make_grids(evaluation, cache, lines=3)
    assert cache.drawn == drawn
    assert [(g.group, g.title.split(":")[0], g.bad) for g in grids] == [
        ("car", "prompts of the kind the eraser was given", True),
        ("car", "withheld wordings and synonyms", True),
        ("car", "truck", False),
        ("neon", "prompts of the kind the eraser was given", True),
        ("neon", "withheld wordings and synonyms", True),
    ]
    assert all(grid.columns == ["base", "good", "bad", "gold"] and len(grid.lines) == 3 for grid in grids)
    first = grids[0].lines[0]
    assert [picture.found for picture in first.pictures] == [True, False, True, False]
    assert [picture.found for picture in grids[2].lines[0].pictures] == [True] * 4
    samples = [s for s in evaluation.samples if s["row"] == "bad" and s["concept"] == "car"]
    assert (first.prompt, first.seed) == (samples[0]["prompt"], samples[0]["seed"])
    assert first.pictures[0].png == first.pictures[2].png
    page = render(ReportData("Toy", evaluation, grids))
    assert "truck: near neighbour" in page.lower()


def test_curves_by_role(tmp_path: Path) -> None:
    records = [
        {"step": 1, "loss": {"forget": 2.0, "retain": 0.5}},
        {"step": 2, "loss": {"forget": None, "retain": 0.25}},
        {"step": 3},
    ]
    made = make_curves(records, "DoCo")
    assert [(c.run, c.role, c.steps, c.values) for c in made] == [
        ("DoCo", "forget", [1], [2.0]),
        ("DoCo", "retain", [1, 2], [0.5, 0.25]),
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_curves(path, "DoCo") == made
    path.write_text('{"step": 1}\nnot json\n')
    with pytest.raises(UserError, match=r"log\.jsonl:2: not JSON"):
        read_curves(path, "DoCo")


def test_snippets_are_code() -> None:
    for form in ("full", "delta"):
        code = load_snippet("out/x", form=form, prompt="a car")
        compile(code, "snippet", "exec")
        assert "out/x" in code
    compile(load_snippet(None), "snippet", "exec")


def test_a_run_carries_its_recipe_as_yaml() -> None:
    made = make_run("UCE", "closed form", {"name": "uce", "concepts": [{"name": "car"}]}, "out")
    assert made.recipe == "name: uce\nconcepts:\n- name: car\n"


def test_pictures_are_base64() -> None:
    assert Picture.of("an answer", True) == Picture("", True, "an answer")
