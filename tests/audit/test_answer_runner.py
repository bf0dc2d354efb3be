"""What an audit's attacker on a model that answers is shown, and what its outcome depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_facts
from oubliette.audit.answer_runner import AnswerAttackRunner
from oubliette.audit.suite import BenignRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, Concept
from oubliette.data.questions import QA
from oubliette.eval.text.answer_judge import AnswerJudge
from oubliette.eval.text.decoding import Decoding
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
    named = runner.describe(ProbeRow(row="probe", probe="inpaint", name="Mine"))
    assert named.title == "Mine"


def test_what_changes_weights_is_for_every_model() -> None:
    spec = ProbeRow(row="probe", probe="quantize", options={"scheme": "nf4"})
    runner = AnswerAttackRunner(FORGET, RETAIN)
    found = runner.describe(spec)
    assert (found.title, found.skip, found.moot) == ("Probe: quantize, NF4, blocks of 64", "", False)
    assert found.budget["options"] == {"bits": 4, "scheme": "nf4", "group": None}
    assert (found.cost, found.looks) == (Cost(), 1)
    # No row of the attacker's has a part in it: what was kept of gold serves whoever is asked the same.
    assert runner.facts(spec, 0) == AnswerAttackRunner(FORGET[:1], RETAIN[:1]).facts(spec, 1)


UNRELATED = [QA(f"What is {n} and {n}?", str(2 * n)) for n in range(9)]


def test_unrelated_rows_are_those_given_and_never_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = benign(pictures=100)
    spec = spec.model_copy(update={"data": "unrelated"})
    runner = AnswerAttackRunner(
        FORGET, RETAIN, unrelated=UNRELATED, avoid=[*ASKED, UNRELATED[0].question, UNRELATED[5].question]
    )
    rows, _, said = shown(runner, spec, monkeypatch)
    assert set(rows) == set(UNRELATED) - {UNRELATED[0], UNRELATED[5]}
    assert said == "only 7 of 100 rows were there"
    assert runner.describe(spec).skip == ""
    none = AnswerAttackRunner(FORGET, RETAIN)
    assert none.describe(spec).skip == "it wants rows of unrelated matters; give some (--benign)"
    assert not none.describe(spec).moot
    assert none.describe(BenignRow(row="benign", attack="O1")).skip != ""
    with pytest.raises(UserError, match="no row of unrelated ones is left"):
        none.facts(spec, 0)


def test_a_named_attack_is_the_catalogues_and_one_on_pictures_is_none_of_these() -> None:
    runner = AnswerAttackRunner(FORGET, RETAIN, unrelated=UNRELATED)
    for name, items in (("R1", 400), ("R2", 60), ("R3", 416), ("R4", 608)):
        found = runner.describe(RelearnRow(row="relearn", attack=name))
        assert (found.skip, found.cost.forwards, found.cost.backwards) == ("", items, items)
    tuned = runner.describe(BenignRow(row="benign", attack="O1", budget={"steps": 5}))
    assert (tuned.title, tuned.cost.backwards) == ("Full fine-tuning, unrelated, 8000 rows", 160)
    odd = runner.describe(RelearnRow(row="relearn", attack="F2"))
    assert odd.moot
    assert odd.skip == "not applicable: F2 is for pictures; for answers there are R1, R2, R3, R4, O1"


class Asked:
    """Says the right answers to some questions, however they are put, and remembers what it heard."""

    kind = "language"
    source = "asked"

    def __init__(self, *knows: QA) -> None:
        self.knows = knows
        self.heard: list[str] = []

    def respond(self, prompts: Sequence[str], max_new_tokens: int = 64, **how: Any) -> list[str]:
        self.heard += prompts
        return [
            next((f"It is {row.answer}." for row in self.knows if row.question in prompt), "No.")
            for prompt in prompts
        ]


def runner_of(**more: Any) -> AnswerAttackRunner:
    """One that asks what the audit does, with the evaluation's judge."""
    expected = {row.question: (row.answer,) for row in FORGET}
    judge = AnswerJudge({Concept("forget", "", FACTS): expected})
    given = {"avoid": ASKED, "asked": FORGET, "judge": judge, "sampling": Decoding(8, 4), **more}
    return AnswerAttackRunner(FORGET, RETAIN, **given)


def searched(runner: AnswerAttackRunner, model: Any, **row: Any) -> Any:
    spec = PromptsRow(**{"row": "prompts", "attack": "role", "cases": 100, **row})
    judge, concept = runner_of().judge, runner_of().concept
    return runner.search(spec, model, hits=lambda samples: judge.hits(samples, concept), seed=0)


def test_a_search_asks_what_the_audit_asks_and_is_judged_as_it_is() -> None:
    model = Asked(*FORGET[:2])
    found = searched(runner_of(), model)
    assert {row.case.prompt for row in found} == set(ASKED[:6])
    assert {row.case.prompt for row in found if row.before} == {row.question for row in FORGET[:2]}
    few = searched(runner_of(), Asked(), cases=2)
    assert [row.case.prompt for row in few] == [row.case.prompt for row in found[:2]]
    assert runner_of().tries(PromptsRow(row="prompts", attack="role")) == 4
    table = runner_of().csv(PromptsRow(row="prompts", attack="role"), found)
    assert table.count("\n") == 1 + 6
    assert ",role," in table


def test_where_the_audit_asks_nothing_all_rows_are_asked() -> None:
    found = searched(runner_of(avoid=()), Asked())
    assert {row.case.prompt for row in found} == {row.question for row in FORGET}


def test_an_attack_learns_from_rows_that_are_not_asked() -> None:
    model = Asked()
    searched(runner_of(), model, attack="few-shot", options={"shots": 3, "tries": 5})
    asked = set(ASKED)
    for prompt in model.heard[6:]:
        told = [row for row in FORGET + RETAIN if row.question in prompt]
        assert len([row for row in told if row.question in asked]) == 1
        assert {row.question for row in told} - asked <= {row.question for row in FORGET[6:]}
    own = [QA("What is new?", "this")]
    other = AnswerAttackRunner(own, RETAIN, avoid=ASKED, asked=FORGET)
    model = Asked()
    searched(other, model, attack="few-shot", options={"tries": 1})
    assert all("What is new? this" in prompt for prompt in model.heard[6:])
    with pytest.raises(UserError, match=r"no row to be forgotten is left.*--data"):
        searched(AnswerAttackRunner(FORGET[:6], RETAIN, avoid=ASKED), Asked(), attack="few-shot")


def test_rows_of_a_file_are_asked_instead_and_judged_by_their_own_answers(tmp_path: Path) -> None:
    rows = [
        QA("Who is the Bell Smith?", "Ada Marlow", paraphrases=("Name the Bell Smith.",)),
        QA("", "Text."),
    ]
    path = tmp_path / "alias.jsonl"
    lines = [
        {"question": rows[0].question, "answer": rows[0].answer, "paraphrases": ["Name the Bell Smith."]},
        {"text": "Text."},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runner, how = runner_of(), {"attack": "rewording", "rows": str(path)}
    model = Asked(QA("Name the Bell Smith.", "Ada Marlow"))
    found = searched(runner, model, **how)
    assert [(row.case.prompt, row.before, row.after) for row in found] == [(rows[0].question, False, True)]
    # The same words to a question that is to be forgotten are no answer to it.
    assert not searched(runner, Asked(QA(FORGET[0].question, "Ada Marlow")))[0].after
    assert runner.describe(PromptsRow(row="prompts", **how)).budget["rows"] == "alias.jsonl"
    with pytest.raises(UserError, match=r"none\.jsonl"):
        runner.describe(PromptsRow(row="prompts", attack="rewording", rows=str(tmp_path / "none.jsonl")))
    path.write_text(json.dumps(lines[1]))
    with pytest.raises(UserError, match="no question that could be asked"):
        runner.describe(PromptsRow(row="prompts", **how))
    assert "rows" not in PromptsRow(row="prompts", attack="role").model_dump()
    assert PromptsRow(row="prompts", **how).model_dump()["rows"] == str(path)


def test_an_outcome_depends_on_what_is_asked_learnt_from_and_how() -> None:
    spec = PromptsRow(row="prompts", attack="few-shot")
    facts = runner_of().facts(spec, 0)
    assert facts == runner_of().facts(spec, 0)
    others = [
        runner_of().facts(spec, 1),
        runner_of(avoid=ASKED[:3]).facts(spec, 0),
        runner_of(sampling=Decoding(9, 4)).facts(spec, 0),
        runner_of(asked=FORGET[:5]).facts(spec, 0),
        runner_of().facts(PromptsRow(row="prompts", attack="few-shot", options={"shots": 1}), 0),
        AnswerAttackRunner(FORGET[:-1], RETAIN, avoid=ASKED, asked=FORGET, sampling=Decoding(8, 4)).facts(
            spec, 0
        ),
        AnswerAttackRunner(FORGET, RETAIN[:-1], avoid=ASKED, asked=FORGET, sampling=Decoding(8, 4)).facts(
            spec, 0
        ),
    ]
    assert all(other != facts for other in others)
    # What learns from nothing does not depend on it; and where nothing is left, a row can still be named.
    plain = PromptsRow(row="prompts", attack="role")
    short = AnswerAttackRunner(FORGET[:-1], RETAIN, avoid=ASKED, asked=FORGET, sampling=Decoding(8, 4))
    assert short.facts(plain, 0) == runner_of().facts(plain, 0)
    assert AnswerAttackRunner(FORGET[:6], RETAIN, avoid=ASKED).facts(
        ProbeRow(row="probe", probe="linear-probe"), 0
    )


@pytest.mark.parametrize("attack", ["affirmation", "role", "rewording", "few-shot", "gcg", "soft-prompt"])
def test_a_search_is_described_with_its_budget_and_cost(attack: str) -> None:
    found = runner_of().describe(PromptsRow(row="prompts", attack=attack, cases=3))
    assert not found.skip
    assert found.budget["cases"] == 3
    assert found.budget.get("given_rows", False) == (attack in ("few-shot", "gcg", "soft-prompt"))
    assert found.cost.forwards >= 3 * 8
    assert bool(found.cost.backwards) == (attack in ("gcg", "soft-prompt"))


def test_a_probe_reads_a_real_model_and_leaves_it_alone(facts_folder: Any) -> None:
    from oubliette.backends import open_model

    model: Any = open_model(facts_folder / "base")
    before, runner = model.fingerprint(), runner_of()
    judge, concept = runner.judge, runner.concept

    def probed(name: str) -> Any:
        spec = ProbeRow(row="probe", probe=name, cases=6, options={"depths": [1.0]})
        return runner.probe(spec, model, hits=lambda found: judge.hits(found, concept), seed=0)

    lens = probed("logit-lens")
    assert judge.hits(lens.samples, concept).all()  # at the last block it is the base itself
    shown = probed("linear-probe")
    assert {one.question for one in shown.samples} == set(ASKED[:6])
    assert shown.facts == {"decodable": 1.0}
    again = probed("linear-probe")
    assert [one.text for one in again.samples] == [one.text for one in shown.samples]
    assert again.each == shown.each
    assert model.fingerprint() == before


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
    """The probe puts questions of the audit's to the bare weights."""
    from oubliette.backends import open_model
    from oubliette.erase.language.projections import Projections

    model: Any = open_model(facts_folder / "base", device="cpu")
    spec = ProbeRow(row="probe", probe="detach", cases=4)
    how: dict[str, Any] = {"avoid": ASKED, "asked": FORGET, "sampling": Decoding(max_new_tokens=8)}
    bare = AnswerAttackRunner(FORGET, RETAIN, **how).describe(spec)
    assert (bare.skip, bare.moot) == ("not applicable: nothing is attached to the model", True)
    runner = AnswerAttackRunner(FORGET, RETAIN, attached=True, **how)
    described = runner.describe(spec)
    assert (described.skip, described.title) == ("", "Probe: detach")
    assert described.cost == Cost(forwards=4 * 8, pictures=4)
    assert runner.describe(ProbeRow(row="probe", probe="inpaint")).moot
    model.attach(own := Projections.grown(None, {0: torch.eye(tiny_facts.WIDTH)[:90]}))
    shown = runner.probe(spec, model, hits=lambda samples: samples, seed=3)
    right = {row.question: row.answer for row in FORGET}
    assert len(set(shown.prompts)) == 4
    assert set(shown.prompts) <= set(ASKED)
    assert [one.text for one in shown.samples] == [right[prompt] for prompt in shown.prompts]
    veiled = [text.strip() for text in model.respond(shown.prompts, 8)]
    assert veiled != [right[prompt] for prompt in shown.prompts]
    assert model.attachment is own
