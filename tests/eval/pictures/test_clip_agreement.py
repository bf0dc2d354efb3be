"""The CLIP judge's score held against another judge's word, alone and as part of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import CAR, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel
from tiny_judges import clip_folder

from oubliette.eval.auroc import auroc
from oubliette.eval.evaluate import compare
from oubliette.eval.judge import Judge
from oubliette.eval.pictures.clip import open_clip_model
from oubliette.eval.pictures.clip_agreement import agreement
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.observe import Observation
from oubliette.eval.result import Evaluation
from oubliette.eval.sample_store import SampleStore


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipJudge:
    return ClipJudge(open_clip_model(str(clip_folder(tmp_path_factory.mktemp("clip") / "tiny-clip"))))


def seen(margin: list[float] | None, hits: dict[str, list[bool]]) -> Observation:
    margins = None if margin is None else np.array(margin)
    masks = {name: np.array(mask) for name, mask in hits.items()}
    return Observation([], masks, None, None, None, None, None, margins)


def test_pictures_of_all_models_are_pooled() -> None:
    rows = [seen([0.2, 0.1], {"oracle": [True, False]}), seen([0.0, 0.3], {"oracle": [False, True]})]
    found = agreement(
        CAR, [*rows, seen(None, {"oracle": [True]}), seen([9.0], {})], judge="c", reference="oracle"
    )
    assert found is not None
    assert found.auroc == auroc(np.array([0.2, 0.1, 0.0, 0.3]), np.array([True, False, False, True]))
    assert str(found).startswith("c against oracle on car: AUROC 1.000 [")
    assert "2 pictures with it and 2 without" in str(found)


def test_one_label_is_nothing_to_sort() -> None:
    found = agreement(CAR, [seen([0.2, 0.1], {"o": [True, True]})], judge="c", reference="o")
    assert found is not None
    assert found.auroc is None
    assert "nothing to sort" in str(found)
    assert agreement(CAR, [seen(None, {"o": [True]})], judge="c", reference="o") is None


def run(judges: list[Judge], cache: SampleStore | None = None) -> Evaluation:
    others = [name for name in THINGS if name != "car"]
    return compare(
        {"good": ToyModel(others)},
        ToyModel(),
        [CAR],
        judges=judges,
        n=12,
        each=4,
        bank=ToyBank(),
        retained=RETAINED,
        cache=cache,
    )


def test_an_evaluation_holds_its_clip_against_its_oracle(clip: ClipJudge) -> None:
    cache = SampleStore()
    table = run([ToyJudge(), clip], cache)
    (found,) = table.agreement
    assert (found.judge, found.reference, found.concept) == (clip.name, "toy", "car")
    mine = [s for s in table.samples if s["concept"] == "car" and s["role"] in ("target", "anchor")]
    margins = clip.margin(np.stack(cache.read([sample["picture"] for sample in mine])), CAR)
    assert found.auroc == auroc(margins, np.array([sample["hits"]["toy"] for sample in mine]))
    assert found.auroc is not None
    assert (found.auroc.positives, found.auroc.negatives) == (24, 24 + 6)
    assert Evaluation.from_json(table.to_json()) == table


def test_a_lone_judge_is_held_against_nobody(clip: ClipJudge) -> None:
    assert run([clip]).agreement == []
    assert run([ToyJudge()]).agreement == []


def test_figures_written_before_there_were_such_fields_are_read(clip: ClipJudge, tmp_path: Path) -> None:
    table = run([ToyJudge(), clip])
    content = json.loads(table.to_json())
    del content["agreement"]
    for row in content["rows"]:
        del row["fidelity"]["cmmd"]
    old = Evaluation.from_json(json.dumps(content))
    assert old.agreement == []
    assert [row.fidelity.cmmd for row in old.rows] == [None, None]
    assert [row.concepts for row in old.rows] == [row.concepts for row in table.rows]
