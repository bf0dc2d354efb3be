"""A second world, registered from outside: everything asks it, and no line of the package knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes import ToyJudge, ToyModel

from oubliette.attack import PROMPT_ATTACKS
from oubliette.attack.catalogue import attack
from oubliette.attack.material import from_world
from oubliette.attack.prompts.cases import make_cases
from oubliette.attack.prompts.paraphrase import Paraphrase, synonyms
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.novel_reference import choose
from oubliette.audit.read_suite import build_suite
from oubliette.audit.resolve import make_search, resolve
from oubliette.audit.suite import PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.concepts import make_concepts
from oubliette.data.prompts import BANKS, bank_from_file
from oubliette.eval.controls import open_control
from oubliette.eval.judge import JUDGES, default_judges
from oubliette.eval.pictures.evaluator import plan_for
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.surroundings import neighbours, rest_of_world, words_of
from oubliette.report.words import told_of
from oubliette.workflows.compose import pick_preset
from oubliette.workflows.guard.apply import budget_for
from oubliette.world.world import OPEN, WORLDS, Fact, World, world_of

#: A kind of its own, "tool", beside one that every model has.
GARDEN = World(
    name="garden",
    tables={
        "tool": {
            "rake": Fact("handle", ("rake",), ("harrow",), near="hoe"),
            "hoe": Fact("handle", ("hoe",), near="rake"),
            "shears": Fact("blade", ("shears", "clippers")),
            "scythe": Fact("blade", ("scythe",), novel=True),
            "spade": Fact("handle", ("spade",), novel=True),
        },
        "object": {"fern": Fact("plant", ("fern",)), "moss": Fact("plant", ("moss",))},
    },
    anchors={"tool": "thing", "object": "plant"},
    unseen=(("rake", "thing", "tool"),),
    gold="garden-gold",
    bank="garden",
    judges={"gardener": "garden-eyes"},
    scenes=f"{__name__}:Plots",
    overlay="x",
    title="garden",
    can=("What grows.",),
    cannot=("What does not.",),
)


class Plots:
    """Scenes of the garden: one grey for the concept, black for the rest."""

    def __init__(
        self, concept: Concept, seed: int, *, avoid: Iterable[str], without: Iterable[Concept]
    ) -> None:
        self.concept, self.seed = concept, seed

    def paint(self, count: int, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
        shade = 9 if what == "concept" else 0
        return np.full((count, 8, 8, 3), shade, np.uint8), (f"plot {self.concept.name} {self.seed}",) * count


class Gardener(ToyJudge):
    """Finds its weights in the world of the model."""

    @classmethod
    def open(cls, argument: str | None, model: Any) -> Gardener:
        made = cls()
        made.name = f"gardener:{argument or world_of(model).judges['gardener']}"
        return made


class Dig(Paraphrase):
    """A search with a preset for the garden."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"published": {}, "x": {"tries": 3}}


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ToyModel:
    """A model of the garden."""
    sentences = tmp_path / "garden.txt"
    sentences.write_text(
        "a {} by the shed\nan old {}\n[withheld]\nwhere is the {}\n[retain]\na snail\n", "utf-8"
    )
    monkeypatch.setitem(WORLDS._targets, "garden", GARDEN)
    monkeypatch.setitem(BANKS._targets, "garden", lambda: replace(bank_from_file(sentences), name="garden"))
    monkeypatch.setitem(JUDGES._targets, "gardener", Gardener)
    monkeypatch.setitem(PROMPT_ATTACKS._targets, "dig", Dig)
    model = ToyModel(source="runs/garden")
    model.world = "garden"  # type: ignore[assignment]
    return model


def test_it_fills_in_kinds_and_anchors(base: ToyModel) -> None:
    assert make_concepts(base, ["harrow", "fern"]) == [
        Concept("harrow", "thing", "tool"),
        Concept("fern", "plant"),
    ]
    with pytest.raises(UserError, match="the garden world has no 'car'"):
        make_concepts(base, "car")


def test_its_kinds_are_kinds_while_it_is_there() -> None:
    with pytest.raises(UserError, match="no kind 'tool'"):
        Concept("rake", "thing", "tool")


def test_it_surrounds_a_concept(base: ToyModel) -> None:
    rake, shears = Concept("rake", "thing", "tool"), Concept("clippers", "thing", "tool")
    rest = rest_of_world(base, [shears])
    assert [(c.name, c.anchor, c.kind) for c in rest] == [
        ("hoe", "thing", "tool"),  # without the rake, which gold never saw
        ("fern", "plant", "object"),
        ("moss", "plant", "object"),
    ]
    assert neighbours(base, [rake, shears], rest) == {rake: "hoe"}
    assert neighbours(base, [shears], rest, {"clippers": "hoe"}) == {shears: "hoe"}
    assert words_of(base, shears) == ["clippers", "shears"]


def test_its_sentences_are_those_of_evaluations_and_attacks(base: ToyModel) -> None:
    rake = Concept("rake", "thing", "tool")
    plan = plan_for(base, [rake], n=4)
    assert {prompt for item in plan.targets for prompt in item.prompts} <= {
        "a rake by the shed",
        "an old rake",
        "where is the rake",
    }
    assert [item.concept.name for item in plan.retained] == ["hoe", "shears", "fern", "moss"]
    assert {case.prompt for case in make_cases(rake, 3, world=GARDEN)} <= {
        "a rake by the shed",
        "an old rake",
    }


def test_a_bank_without_sentences_for_its_kinds_says_so(base: ToyModel) -> None:
    rake = Concept("rake", "thing", "tool")
    with pytest.raises(UserError, match="prompt bank 'general': has no sentences for a tool, as 'rake' is"):
        make_cases(rake, 1, world=OPEN)


def test_its_judge_looks_first(base: ToyModel) -> None:
    assert [judge.name for judge in default_judges(base)] == ["gardener:garden-eyes"]


def test_its_gold_is_opened_for_what_it_never_saw(base: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("oubliette.backends.open_model", lambda name, **_: opened.append(name) or ToyModel())
    painter = CachedSampler("base", base, SampleStore(), Sampling(), role="control")
    with open_control("gold", painter, [Concept("harrow", "thing", "tool")], []):
        assert opened == ["garden-gold"]
    other = open_control("gold", painter, [Concept("fern", "plant")], [])
    with pytest.raises(UserError, match="garden-gold was trained without rake only, not without fern"), other:
        pass


def test_an_audit_finds_its_gold(base: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.workflows.audit_setup import _open_gold

    monkeypatch.setattr("oubliette.backends.open_model", lambda name, **_: name)
    assert _open_gold(None, base, Concept("rake", "thing", "tool")) == "garden-gold"
    assert _open_gold(None, base, Concept("fern", "plant")) is None
    assert _open_gold(None, ToyModel(), Concept("fern", "plant")) is None


def test_its_novel_things_stand_in_for_gold(base: ToyModel) -> None:
    assert choose(base, Concept("rake", "thing", "tool"), None, None) == Concept("spade", "thing", "tool")
    assert choose(base, Concept("shears", "thing", "tool"), None, None).name == "scythe"
    with pytest.raises(UserError, match="name a object that runs/garden does not know"):
        choose(base, Concept("fern", "plant"), None, None)


def test_its_scenes_are_an_attackers_pictures(base: ToyModel) -> None:
    rake = Concept("rake", "thing", "tool")
    shown = from_world(rake, 8, count=2, seed=5, world=GARDEN)
    assert shown.pictures.max() == 9
    assert (shown.captions, shown.where) == (("plot rake 5",) * 2, "the garden world, seed 5")
    base.picture_side = 8  # type: ignore[attr-defined]
    runner = PictureAttackRunner(rake, base, sampling=Sampling())
    assert runner.material("benign", 3, 1).pictures.shape == (3, 8, 8, 3)
    assert runner.material("benign", 3, 1).pictures.max() == 0
    with pytest.raises(UserError, match="the open world paints no scenes"):
        from_world(rake, 8, count=1, world=OPEN)


def test_its_words_are_tried_by_an_attacker(base: ToyModel) -> None:
    assert synonyms(Concept("rake", "thing", "tool"), GARDEN) == ["harrow"]
    assert synonyms(Concept("clippers", "thing", "tool"), GARDEN) == ["shears"]


def test_its_overlay_picks_presets_and_budgets(base: ToyModel) -> None:
    # "esd-x" happens to be a preset that ends in the garden's overlay, and no attack of the catalogue does.
    assert pick_preset(base, "esd") == "esd-x"
    assert pick_preset(base, "doco") == "doco"
    row = RelearnRow(attack="L1", budget={"steps": 200}, nano={"steps": 3})
    assert resolve(row, GARDEN).budget == attack("L1").budget.changed(steps=3)
    small = replace(GARDEN, overlay="nano")
    assert resolve(row, small).budget == attack("L1-nano").budget.changed(steps=3)
    assert make_search(PromptsRow(attack="dig"), GARDEN).tries() == 3
    assert make_search(PromptsRow(attack="dig"), OPEN).tries() == 8
    assert (
        make_search(PromptsRow(attack="p4d"), GARDEN).options == make_search(PromptsRow(attack="p4d")).options
    )
    assert budget_for(base, "full").pictures < budget_for(ToyModel(), "full").pictures


def test_rows_are_checked_for_every_world(base: ToyModel) -> None:
    """A budget that is wrong for the garden alone is refused when the suite is read."""
    rows = [{"row": "evaluation"}, {"row": "relearn", "attack": "L1", "nano": {"steps": 0}}]
    with pytest.raises(UserError, match="steps"):
        build_suite({"rows": rows})


def test_pages_tell_of_it_and_of_none_that_is_not_here(base: ToyModel) -> None:
    assert told_of("garden") is GARDEN
    assert told_of(None) is told_of("orchard") is None
