"""What an audit's attacker on a model that answers is shown, and what its outcome depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_facts
from oubliette.audit.answer_runner import AnswerAttackRunner
from oubliette.audit.suite import BenignRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.train.cost import Cost

FORGET, RETAIN = ([QA(row["question"], row["answer"]) for row in rows] for rows in tiny_facts.sets())
ASKED = [row.question for row in [*FORGET[:6], *RETAIN[:4]]]
BUDGET = {"pictures": 5, "steps": 3, "batch": 2, "learning_rate": 1e-2, "warm_up": 0}


def relearning(**more: Any) -> RelearnRow:
    return RelearnRow(row="relearn", mode="full", budget={**BUDGET, **more})


def benign(**more: Any) -> BenignRow:
    return BenignRow(row="benign", mode="full", data="benign", budget={**BUDGET, **more})


def shown(
    runner: AnswerAttackRunner, spec: Any, monkeypatch: pytest.MonkeyPatch, seed: int = 0
) -> tuple[list[QA], dict[str, Any], str]:
    """The rows, the settings of the training, and what the attack had to say."""
    seen: dict[str, Any] = {}

    def take(model: Any, data: Any, mode: str, budget: Any, **more: Any) -> Any:
        seen.update(data=data, mode=mode, budget=budget, **more)

    monkeypatch.setattr("oubliette.audit.answer_runner.Answering", lambda model, rows: list(rows))
    monkeypatch.setattr("oubliette.audit.answer_runner.relearn", take)
    said = runner.relearn(spec, None, seed=seed, at=[0, 3], look=lambda step, model: None)
    return seen.pop("data"), seen, said


def test_nothing_that_is_asked_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = AnswerAttackRunner(FORGET, RETAIN, avoid=ASKED)
    rows, _, _ = shown(runner, relearning(pictures=100), monkeypatch)
    assert set(rows) == set(FORGET[6:])
    rows, _, _ = shown(runner, benign(pictures=100), monkeypatch)
    assert set(rows) == set(RETAIN[4:])


def test_a_budget_takes_the_first_of_an_order_that_the_seed_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = AnswerAttackRunner(FORGET, RETAIN, avoid=ASKED)
    five, _, said = shown(runner, relearning(), monkeypatch)
    assert len(five) == 5
    assert said == ""
    seven, _, _ = shown(runner, relearning(pictures=7), monkeypatch)
    assert seven[:5] == five
    assert shown(runner, relearning(), monkeypatch, seed=1)[0] != five
    exactly, _, said = shown(runner, relearning(pictures=10), monkeypatch)
    assert (len(exactly), said) == (10, "")
    _, _, said = shown(runner, relearning(pictures=11), monkeypatch)
    assert said == "only 10 of 11 rows were there"


def test_the_training_is_the_rows_with_the_runs_seed_and_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    _, how, _ = shown(AnswerAttackRunner(FORGET, RETAIN), relearning(), monkeypatch, seed=7)
    assert (how["mode"], how["budget"].steps, how["budget"].seed, how["at"]) == ("full", 3, 7, [0, 3])
    assert how["frozen"] is None
    masked = AnswerAttackRunner(FORGET, RETAIN, frozen=["a"])
    assert shown(masked, relearning(), monkeypatch)[1]["frozen"] == ["a"]


def test_an_outcome_depends_on_rows_seed_mask_and_settings() -> None:
    runner = AnswerAttackRunner(FORGET, RETAIN, avoid=ASKED)
    facts = runner.facts(relearning(), 0)
    assert facts == AnswerAttackRunner(FORGET, RETAIN, avoid=ASKED).facts(relearning(), 0)
    others = [
        runner.facts(relearning(), 1),
        runner.facts(relearning(steps=4), 0),
        runner.facts(benign(), 0),
        AnswerAttackRunner(FORGET, RETAIN).facts(relearning(), 0),
        AnswerAttackRunner(FORGET, RETAIN, avoid=ASKED, frozen=["a"]).facts(relearning(), 0),
        AnswerAttackRunner([QA(row.question, row.answer + "!") for row in FORGET], RETAIN, avoid=ASKED).facts(
            relearning(), 0
        ),
    ]
    assert all(other != facts for other in others)


def test_where_the_audit_asks_them_all_nothing_is_left() -> None:
    runner = AnswerAttackRunner(FORGET[:6], RETAIN[:4], avoid=ASKED)
    with pytest.raises(UserError, match=r"no row to be forgotten is left for an attacker.*--data"):
        runner.facts(relearning(), 0)
    with pytest.raises(UserError, match="no row of other matters is left for an attacker"):
        runner.facts(benign(), 0)


def test_what_would_need_pictures_is_skipped_and_no_gap_of_the_audit() -> None:
    runner = AnswerAttackRunner(FORGET, RETAIN)
    for spec in (
        ProbeRow(row="probe", probe="inpaint"),
        PromptsRow(row="prompts", attack="paraphrase", cases=2),
    ):
        found = runner.describe(spec)
        assert found.moot
        assert found.skip == "not applicable: it needs a model that draws"
        assert found.cost == Cost()
        assert runner.rewrite(spec) is None
        assert runner.tries(spec) == 0
        assert runner.csv(spec, []) == ""
    with pytest.raises(UserError, match="paraphrase: it needs a model that draws"):
        runner.search(PromptsRow(row="prompts", attack="paraphrase", cases=2), None)
    with pytest.raises(UserError, match="inpaint: it needs a model that draws"):
        runner.probe(ProbeRow(row="probe", probe="inpaint"), None, hits=None, seed=0)  # type: ignore[arg-type]
    named = runner.describe(ProbeRow(row="probe", probe="inpaint", name="Mine"))
    assert named.title == "Mine"


def test_a_row_is_described_by_its_rows() -> None:
    found = AnswerAttackRunner(FORGET, RETAIN, frozen=["a", "b"]).describe(relearning())
    assert "5 rows" in found.title
    assert found.budget["frozen"] == 2
    assert not found.skip


def test_a_models_time_is_that_of_an_item_and_leaves_it_alone(facts_folder: Any) -> None:
    from oubliette.backends import open_model

    model: Any = open_model(facts_folder / "gold")
    before = model.fingerprint()
    runner = AnswerAttackRunner(FORGET, RETAIN)
    assert 0 < runner.seconds_an_item(relearning(), model) < 5
    assert model.fingerprint() == before


def test_an_attack_on_a_real_model_teaches_and_takes_back(facts_folder: Any) -> None:
    from oubliette.backends import open_model

    model: Any = open_model(facts_folder / "gold")
    before, steps = model.fingerprint(), []
    seen: list[str] = []

    def look(step: int, changed: Any) -> None:
        steps.append(step)
        seen.append(changed.fingerprint())

    runner = AnswerAttackRunner(FORGET, RETAIN)
    assert runner.relearn(relearning(), model, seed=0, at=[0, 3], look=look) == ""
    assert steps == [0, 3]
    assert seen[0] == before != seen[1]
    assert model.fingerprint() == before


def test_what_is_attached_is_taken_off_and_asked_for_again(facts_folder: Any) -> None:
    """The probe puts the audit's own questions to the bare weights."""
    from oubliette.backends import open_model
    from oubliette.erase.language.projections import Projections
    from oubliette.eval.text.answer_plan import AnswerSets
    from oubliette.eval.text.evaluator import AnswerEvaluator

    model: Any = open_model(facts_folder / "base", device="cpu")
    evaluator = AnswerEvaluator(model, AnswerSets("forget", FORGET, RETAIN))
    spec = ProbeRow(row="probe", probe="detach", cases=4)
    bare = AnswerAttackRunner(FORGET, RETAIN, evaluator=evaluator)
    assert (bare.describe(spec).skip, bare.describe(spec).moot) == (
        "not applicable: nothing is attached to the model",
        True,
    )
    runner = AnswerAttackRunner(FORGET, RETAIN, evaluator=evaluator, attached=True)
    described = runner.describe(spec)
    assert (described.skip, described.title) == ("", "Probe: detach")
    assert described.cost == Cost(forwards=4 * evaluator.sampling.passes, pictures=4)
    assert runner.describe(ProbeRow(row="probe", probe="inpaint")).moot
    model.attach(own := Projections.grown(None, {0: torch.eye(tiny_facts.WIDTH)[:90]}))
    asked = evaluator.plan(n=4, seed=3).targets[0].prompts
    veiled = evaluator.judges[0].hits(
        evaluator.sampling.together(asked, evaluator.sampling.make(model, asked, [0] * 4)),
        evaluator.concepts[0],
    )
    shown = runner.probe(spec, model, hits=lambda samples: samples, seed=3)
    assert shown.prompts == asked
    assert evaluator.judges[0].hits(shown.pictures, evaluator.concepts[0]).all()
    assert not veiled.all()
    assert model.attachment is own
    assert runner.facts(spec, 3) == runner.facts(spec, 3)
    assert runner.facts(spec, 3) != runner.facts(spec, 4)
    assert runner.facts(spec, 3) != runner.facts(ProbeRow(row="probe", probe="detach", cases=3), 3)
