"""The examples of docs/adding-*.md do what their pages say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import CAR, NEON, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel

import tiny
from attack.prompts.fakes import Drawer, white
from oubliette.attack.prompts import Case
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.questions import QA
from oubliette.eval.evaluate import compare
from oubliette.eval.judge import Judge

DOCS = Path(__file__).parent.parent / "docs"


def example(page: str, number: int = 0) -> dict[str, Any]:
    """What a page's Python block of that number defines."""
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(found[number], page, "exec"), names)
    return names


def test_the_judge_finds_the_night() -> None:
    judge = example("adding-a-metric.md")["Darkness"].open("0.4", None)
    assert isinstance(judge, Judge)
    night, day = (np.full((2, 8, 8, 3), shade, dtype=np.uint8) for shade in (30, 200))
    assert judge.covers(Concept("night", "sky"))
    assert not judge.covers(CAR)
    assert (
        judge.hits(np.concatenate([night, day]), Concept("night", "sky")).tolist() == [True] * 2 + [False] * 2
    )
    assert judge.fingerprint != type(judge)().fingerprint
    for wrong in ("dark", "2", "nan"):
        with pytest.raises(UserError, match="number from 0 to 1"):
            type(judge).open(wrong, None)


def test_the_metric_of_answers_compares_lengths() -> None:
    metric = example("adding-a-metric.md", 1)["Brevity"]()
    metric.name = "brevity"
    rows = [QA("Who?", "Ada"), QA("Where?", "in town")]
    asked = SimpleNamespace(
        rows={"forget": [("a", rows[0]), ("b", rows[1])]}, answers=lambda questions: ["Marlow", "here"]
    )
    assert metric.check({"forget": rows}) == []
    own = metric.observe(asked)
    (figure,) = metric.figures("m", SimpleNamespace(own=own))
    assert (figure.value, figure.items, figure.better) == (0.5, {"a": 0.0, "b": 1.0}, "lower")


def test_the_metric_counts_what_survives() -> None:
    survivors = example("adding-a-metric.md", 2)["survivors"]
    others = [name for name in THINGS if name not in ("car", "neon")]
    found = compare(
        {"good": ToyModel(others), "bad": ToyModel(source="bad")},
        ToyModel(),
        [CAR, NEON],
        judges=[ToyJudge()],
        n=8,
        bank=ToyBank(),
        retained=RETAINED,
    )
    assert survivors(found, "good", "toy").value == 0
    assert survivors(found, "bad", "toy").value == 1
    assert survivors(found, "bad", "another judge") is None


def test_the_search_proposes_and_is_counted() -> None:
    made = example("adding-an-attack.md")["Insist"]
    attack = made(made.Options(times=3))
    model = Drawer("car, a car, a car")
    found = attack.search(model, CAR, [Case("a car", 1), Case("a boat", 2)], white)
    assert [row.after for row in found] == [True, False]
    assert [row.tries for row in found] == [2, 3]
    assert found[0].prompt == "a car, a car, a car"
    assert {"published", "nano"} <= set(made.presets)


def test_the_family_opens_draws_and_names_its_groups() -> None:
    names = example("adding-a-model-family.md")
    model = names["opened"](tiny.pipeline())
    assert model.text_facing()
    assert set(model.groups()) == set(names["FACTS"]["groups"])
    assert model.draw(["a car"], [1], steps=2).shape == (1, 16, 16, 3)


def test_the_kitchen_is_measured(tmp_path: Path) -> None:
    class Dark:
        name, fingerprint, threshold = "dark", "0" * 64, None

        def covers(self, concept: Concept) -> bool:
            return True

        def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
            return np.asarray(pictures.mean(axis=(1, 2, 3)) < 128)

    names = example("adding-a-world.md")
    base = ToyModel()
    found = names["measure"](ToyModel(source="other"), base, [Dark()], tmp_path, n=4)
    figures = found.row("teapot-free").concepts[0]
    assert (figures.name, figures.near) == ("teapot", "saucepan")
    assert {figure.split for figure in figures.leakage} == {"in-set", "withheld"}
    assert {prompt for prompt, _ in base.calls} & {"look, a teapot", "look, a kettle"}


def test_the_kitchen_is_a_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.data.concepts import make_concepts
    from oubliette.data.prompts import BANKS
    from oubliette.eval.pictures.evaluator import plan_for
    from oubliette.world.world import WORLDS, world_of

    for registry in (WORLDS, BANKS):
        monkeypatch.setattr(registry, "_targets", dict(registry._targets))
    names = example("adding-a-world.md", 1)
    (tmp_path / "kitchen.txt").write_text("a {} on a shelf\n[withheld]\nlook, a {}\n", "utf-8")
    names["install"](tmp_path / "kitchen.txt")
    model = ToyModel()
    model.world = "kitchen"  # type: ignore[assignment]
    assert world_of(model) is names["KITCHEN"]
    plan = plan_for(model, make_concepts(model, ["kettle"]), n=2)
    assert {prompt for item in plan.targets for prompt in item.prompts} == {
        "a kettle on a shelf",
        "look, a kettle",
    }
    assert [(item.concept.name, item.concept.anchor) for item in plan.retained] == [
        ("saucepan", "thing"),
        ("spoon", "thing"),
    ]
