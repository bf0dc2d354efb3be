"""From toy models to a table: known rows must come out in the known order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CAR, NEON, RETAINED, THINGS, TRUCK, ToyBank, ToyExtractor, ToyJudge, ToyModel

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval import verdict
from oubliette.eval.evaluate import compare, evaluate
from oubliette.eval.leakage import ON_ANCHOR
from oubliette.eval.pictures.evaluator import plan_for
from oubliette.eval.result import Evaluation
from oubliette.eval.sample_store import SampleStore

OTHERS = [name for name in THINGS if name not in ("car", "neon")]
CONTROLS: tuple[Any, ...] = ("base", ("gold", ToyModel(OTHERS, "gold")), "random weights", "prompt filter")


def run(models: dict[str, ToyModel] | None = None, **options: Any) -> Evaluation:
    settings: dict[str, Any] = {
        "judges": [ToyJudge()],
        "n": 40,
        "each": 10,
        "near_n": 20,
        "bank": ToyBank(),
        "retained": RETAINED,
        "near": {"car": "truck"},
        "controls": CONTROLS,
    }
    return compare(
        models or {"good": ToyModel(OTHERS), "bad": ToyModel()},
        ToyModel(),
        [CAR, NEON],
        **(settings | options),
    )


@pytest.fixture(scope="module")
def table() -> Evaluation:
    return run(extractor=ToyExtractor())


def test_rows_and_words(table: Evaluation) -> None:
    words = {row.name: [f.verdict.word for f in row.concepts] for row in table.rows}
    assert words == {
        "good": [verdict.SUPPRESSED] * 2,
        "bad": [verdict.NOT_ERASED] * 2,
        "base": [verdict.NOT_ERASED] * 2,
        "gold": [verdict.SUPPRESSED] * 2,
        "random weights": [verdict.DESTROYED] * 2,
        "prompt filter": [verdict.NOT_ERASED] * 2,
    }
    assert [row.role for row in table.rows] == ["model", "model", *["control"] * 4]
    assert table.complaints == []
    assert table.exit_code == 1


def test_figures_by_hand(table: Evaluation) -> None:
    car = table.row("good").concepts[0]
    assert (car.judge, car.near) == ("toy", "truck")
    figure = car.leakage_of("in-set")
    assert figure is not None
    assert (figure.rate.hits, figure.base.hits, figure.floor.hits, figure.rate.n) == (0, 40, 0, 40)
    utility = car.utility
    assert utility is not None
    assert utility.ira is not None
    assert utility.ira_near is not None
    assert utility.ira_far is not None
    assert utility.cra is not None
    assert [utility.ua.value, utility.ira.rate.value, utility.cra.rate.value] == [1, 1, 1]
    assert [utility.ira.rate.n, utility.ira_near.rate.n, utility.ira_far.rate.n, utility.cra.rate.n] == [
        20,
        20,
        10,
        10,
    ]


def test_the_floor_is_taken_where_the_concept_is_absent_and_on_gold(table: Evaluation) -> None:
    for row in table.rows:
        figure = row.concepts[0].leakage_of("in-set")
        assert figure is not None
        assert figure.ground == "the base's 40 pictures of other objects and gold's 40 of it"
        assert (figure.floor.hits, figure.floor.n) == (0, 80)
        assert figure.anchor is not None
        assert figure.anchor.n == 20
    shown = {row.name: row.concepts[0].leakage_of("in-set").leakage.value for row in table.rows}
    assert shown["base"] == 1
    assert max(shown["gold"], shown["random weights"], shown["prompt filter"]) == 0


class Blurred(ToyJudge):
    """Takes every second picture of a truck, and every anchor's, for a car."""

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        found = super().hits(pictures, concept)
        if concept.name == "car":
            truck = super().hits(pictures, TRUCK)
            found = found | (truck & (np.cumsum(truck) % 2 == 1)) | self.grey(pictures)
        return found

    @staticmethod
    def grey(pictures: np.ndarray) -> np.ndarray:
        mean = pictures.reshape(len(pictures), -1, 3).mean(1)
        return np.ptp(mean, axis=1) < 12


def test_an_anchor_that_shows_the_concept_is_no_floor_but_a_warning() -> None:
    found = run({"good": ToyModel(OTHERS)}, judges=[Blurred()], controls=())
    figure = found.row("good").concepts[0].leakage_of("in-set")
    assert figure is not None
    assert figure.anchor is not None
    assert (figure.floor.hits, figure.floor.n, figure.anchor.value) == (10, 40, 1.0)
    assert figure.anchor_shows(0.1)
    assert any("erasing onto it leaves the concept in the model" in note for note in found.notes)
    assert not any(note.startswith("neon") for note in found.notes)


def test_gold_over_the_bound_is_said() -> None:
    found = run(
        {"good": ToyModel(OTHERS)}, judges=[Blurred()], controls=[("gold", ToyModel(["car"], "gold"))]
    )
    gold = found.row("gold").concepts[0]
    assert gold.verdict.reasons[-1] == "a model that never knew it shows this much"
    assert any(
        "gold's leakage in-set is 100 %" in note and "never knew it shows this much" in note
        for note in found.notes
    )
    assert not any("never knew" in line for line in found.row("good").concepts[0].verdict.reasons)


def test_without_others_of_the_kind_the_floor_is_the_anchors_and_a_note_says_so() -> None:
    found = run({"good": ToyModel(OTHERS)}, retained=[], near=None, controls=())
    figure = found.row("good").concepts[0].leakage_of("withheld")
    assert figure is not None
    assert (figure.floor.n, figure.anchor, figure.ground) == (40, None, ON_ANCHOR)
    assert any("the floor is the judge's rate on the anchor's prompts" in note for note in found.notes)


def test_figures_written_before_the_floor_changed_are_read_as_what_they_are(table: Evaluation) -> None:
    content = json.loads(table.to_json())
    for row in content["rows"]:
        for figures in row["concepts"]:
            figures["verdict"].pop("more")
            for figure in figures["leakage"]:
                del figure["anchor"], figure["ground"]
    old = Evaluation.from_json(json.dumps(content)).row("good").concepts[0].leakage_of("in-set")
    assert old is not None
    assert (old.anchor, old.ground) == (None, ON_ANCHOR)


def test_the_prompt_filter_leaks_on_synonyms_alone(table: Evaluation) -> None:
    for figures in table.row("prompt filter").concepts:
        shown = [figures.leakage_of(split) for split in ("in-set", "withheld")]
        assert [figure.rate.value for figure in shown if figure] == [0.0, 1.0]


def test_fidelity_orders_the_rows(table: Evaluation) -> None:
    kid = {row.name: row.fidelity.kid.value for row in table.rows if row.fidelity.kid}
    apart = {row.name: row.fidelity.distance.pixels.value for row in table.rows if row.fidelity.distance}
    cmmd = {row.name: row.fidelity.cmmd.value for row in table.rows if row.fidelity.cmmd}
    assert len(kid) == len(cmmd) == 6
    assert kid["random weights"] > 10 * abs(kid["base"])
    assert cmmd["random weights"] > 3 * cmmd["base"]
    assert abs(kid["good"] - kid["base"]) < 1e-9
    assert apart["good"] == 0.0
    assert apart["random weights"] > 0.2
    assert table.row("base").fidelity.distance is None


def test_a_judge_that_sees_the_concept_everywhere_but_in_the_base_is_called_broken() -> None:
    class Upside(ToyJudge):
        def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
            return ~super().hits(pictures, concept)

    complaints = run(judges=[Upside()]).complaints
    assert any("finds it in 100 % of gold's pictures" in line for line in complaints)
    assert any("does not leak on synonyms" in line for line in complaints)
    assert any("IRA of random weights" in line for line in complaints)


def test_a_constant_judge_is_called_broken() -> None:
    class Constant(ToyJudge):
        def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
            return np.ones(len(pictures), dtype=bool)

    assert len(run(judges=[Constant()]).complaints) >= 6


def test_where_no_judge_covers_a_concept_it_is_not_checked() -> None:
    class CarOnly(ToyJudge):
        def covers(self, concept: Concept) -> bool:
            return concept.name == "car"

    found = run({"good": ToyModel(OTHERS)}, judges=[CarOnly()], controls=())
    car, neon = found.row("good").concepts
    assert (car.judge, car.verdict.word) == ("toy", verdict.SUPPRESSED)
    assert (neon.judge, neon.verdict.word, neon.leakage, neon.utility) == (
        None,
        verdict.NOT_CHECKED,
        [],
        None,
    )
    assert found.notes == ["neon: not checked, no judge covers it"]
    assert found.exit_code == 3


def test_a_base_of_no_known_world_is_not_checked_by_default() -> None:
    found = evaluate(ToyModel(OTHERS), ToyModel(), [CAR], n=4, bank=ToyBank())
    assert found.models[0].concepts[0].verdict.word == verdict.NOT_CHECKED
    assert found.judges == []


def test_a_base_that_never_showed_it_is_not_checked() -> None:
    found = compare(
        {"m": ToyModel(OTHERS)}, ToyModel(OTHERS), [CAR], judges=[ToyJudge()], n=8, bank=ToyBank()
    )
    figures = found.row("m").concepts[0]
    assert figures.verdict.word == verdict.NOT_CHECKED
    assert figures.leakage[0].leakage is None


def test_json_comes_back_equal(table: Evaluation, tmp_path: Path) -> None:
    assert Evaluation.from_json(table.to_json()) == table
    table.write(tmp_path / "evaluation.json")
    assert Evaluation.from_json((tmp_path / "evaluation.json").read_text("utf-8")) == table
    assert "samples" not in json.loads(table.to_json())


def test_samples_hold_a_line_a_picture_and_row(table: Evaluation, tmp_path: Path) -> None:
    table.write_samples(tmp_path / "samples.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text("utf-8").splitlines()]
    assert lines == table.samples
    shared = 4 * 40 + 20 + 10 + 10
    # The base alone: half as many of each anchor, and 40 a concept and wording where it is absent.
    assert len(lines) == 6 * shared + 2 * 20 + 4 * 40
    good = [line for line in lines if line["row"] == "good" and line["role"] == "target"]
    assert not any(line["hits"]["toy"] for line in good)
    anchors = [line for line in lines if line["role"] == "anchor"]
    assert {line["row"] for line in anchors} == {"base"}


def test_the_same_call_draws_nothing_twice_and_gives_the_same_figures(tmp_path: Path) -> None:
    first = run(cache=tmp_path)
    cache = SampleStore(tmp_path)
    second = run(cache=cache)
    assert cache.drawn == 0
    assert first.samples == second.samples
    assert [row.concepts for row in first.rows] == [row.concepts for row in second.rows]


def test_the_base_is_as_it_was() -> None:
    base = ToyModel()
    before = base.fingerprint()
    compare(
        {"m": ToyModel(OTHERS)},
        base,
        [CAR],
        judges=[ToyJudge()],
        n=4,
        bank=ToyBank(),
        controls=["random weights"],
    )
    assert base.fingerprint() == before


def test_progress_ends_at_its_total() -> None:
    told: list[tuple[int, int, str]] = []
    run(progress=lambda done, total, who: told.append((done, total, who)))
    assert told[-1][0] == told[-1][1]
    assert {who for _, _, who in told} == {"good", "bad", "base", "gold", "random weights", "prompt filter"}
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_prompts_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text("case_number,prompt,evaluation_seed\n0,a car here,5\n1,one more car,6\n2,a boat,7\n")
    found = evaluate(
        ToyModel(OTHERS), ToyModel(), [CAR], judges=[ToyJudge()], bank=ToyBank(), n=8, prompts_csv=path
    )
    targets = [
        sample
        for sample in found.samples
        if sample["row"] == found.models[0].name and sample["role"] == "target"
    ]
    assert [(s["prompt"], s["seed"], s["split"]) for s in targets] == [
        ("a car here", 5, "csv"),
        ("one more car", 6, "csv"),
    ]
    assert found.settings.prompts_csv == "prompts.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"controls": ["golt"]}, "no control is called 'golt'"),
        ({"judges": ["oracel"]}, "no judge is called 'oracel'"),
        ({"near": {"car": "boot"}}, "did you mean 'boat'"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(**change)


def test_nothing_to_measure() -> None:
    with pytest.raises(UserError, match="no concept was given"):
        compare({"m": ToyModel()}, ToyModel(), [])
    with pytest.raises(UserError, match="no model was given"):
        compare({}, ToyModel(), [CAR])
    with pytest.raises(UserError, match="named twice"):
        compare({"m": ToyModel()}, ToyModel(), [TRUCK, TRUCK])
    with pytest.raises(UserError, match="'gold' is a control's name"):
        compare({"gold": ToyModel()}, ToyModel(), [CAR])


def test_the_plan_tells_beforehand_what_is_drawn() -> None:
    cache = SampleStore()
    options: dict[str, Any] = {"n": 8, "bank": ToyBank(), "retained": RETAINED}
    plan = plan_for(ToyModel(), [CAR], **options)
    compare({"m": ToyModel(OTHERS)}, ToyModel(), [CAR], judges=[ToyJudge()], cache=cache, **options)
    assert cache.drawn == plan.pictures(rows=1)


def test_foreign_json_is_refused() -> None:
    with pytest.raises(UserError, match="expected what"):
        Evaluation.from_json('{"rows": 3}')


def test_another_format_is_refused(table: Evaluation) -> None:
    with pytest.raises(UserError, match="is not 'oubliette-evaluation/1'"):
        Evaluation.from_json(table.to_json().replace("oubliette-evaluation/1", "oubliette-evaluation/9"))


def test_a_model_with_faults_is_said_to_have_them() -> None:
    broken: Any = ToyModel(OTHERS)
    broken.faults = ("'unet.w' holds values that are not finite (NaN or infinity)",)
    found = run({"broken": broken, "good": ToyModel(OTHERS)}, controls=())
    assert [note for note in found.notes if "finite" in note] == [f"broken: {broken.faults[0]}"]
