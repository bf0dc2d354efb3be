"""The erasing benchmark: its plan, a whole run on tiny models, ranking and tables against figures by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny_world
from oubliette.bench.erasure.bench import ERASURE
from oubliette.bench.erasure.figures import CellFigures, balance, ranked
from oubliette.bench.erasure.gallery import columns_of
from oubliette.bench.erasure.plan import Plan, Trials, read_plan
from oubliette.bench.erasure.table import concept_table, leader_table
from oubliette.bench.runner import bench
from oubliette.bench.shipped import plan_text
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.erase import METHODS

PLAN: dict[str, Any] = {
    "name": "tiny",
    "concepts": [{"name": "car", "runs": 2}],
    "subjects": [
        {"name": "none", "control": "none", "runs": 1},
        {"name": "gold", "control": "gold", "runs": 1},
        {"name": "UCE", "method": "uce", "set": ["data.prompts=4"]},
        {"name": "UCE, once", "method": "uce", "set": ["data.prompts=4"], "only": ["car"], "runs": 1},
    ],
    "further": {"concepts": [{"name": "boat"}], "leading": 1},
    "audit": {"suite": "suite.yaml", "leading": 1},
    "n": 3,
    "each": 1,
    "sampling_steps": 2,
}


SUITE: dict[str, Any] = {
    "name": "tiny",
    "seeds": 1,
    "points": 2,
    "pictures": 2,
    "kept": 1,
    "steps": 2,
    "rows": [
        {"row": "evaluation", "n": 2, "each": 1, "near_n": 1},
        {"row": "prompts", "name": "paraphrase", "attack": "paraphrase", "cases": 2},
    ],
}


def figures(
    subject: str, harmonic: float, *, kind: str = "object", seed: int = 0, **more: Any
) -> CellFigures:
    facts: dict[str, Any] = {"concept": f"a {kind}", "verdict": "erased", "n": 10, **more}
    return CellFigures(subject=subject, kind=kind, seed=seed, harmonic=harmonic, **facts)


@pytest.mark.parametrize("name", ["erasure", "tuning"])
def test_the_shipped_plans_read(name: str) -> None:
    plan = read_plan(name)
    cells = plan.cells()
    assert len({cell.key for cell in cells}) == len(cells)
    assert Plan.model_validate(yaml.safe_load(plan_text(name))) == plan


def test_the_shipped_plan_has_every_picture_method_and_every_control() -> None:
    from oubliette.recipe import load_recipe
    from oubliette.workflows.compose import pick_preset

    class Nano:
        kind, world = "diffusion", "picture"

    plan = read_plan("erasure")
    asked = [subject.method for subject in plan.subjects if subject.method is not None]
    used = {load_recipe(pick_preset(Nano(), name)).method["name"] for name in asked}  # type: ignore[arg-type]
    assert used == {name for name in METHODS if METHODS.get(name).backend == "diffusion"}
    controls = {subject.control for subject in plan.subjects} - {None}
    assert controls == {"base", "gold", "random weights", "prompt filter"}


def test_methods_are_tuned_on_development_concepts_with_equally_many_trials() -> None:
    from oubliette.world import facts

    plan = read_plan("tuning")
    development = {name for name, _, _ in facts.DEVELOPMENT_CONCEPTS}
    assert {target.name for target in plan.concepts} <= development
    assert len({len(trials.subjects()) for trials in plan.trials}) == 1


def test_trials_are_every_combination() -> None:
    made = Trials(
        method="esd-x", set=["seed=1"], grid={"train.learning_rate": [1e-4, 1e-3], "train.steps": [5]}
    )
    assert [subject.name for subject in made.subjects()] == [
        "esd-x: learning_rate 0.0001, steps 5",
        "esd-x: learning_rate 0.001, steps 5",
    ]
    assert made.subjects()[1].set == ["seed=1", "train.learning_rate=0.001", "train.steps=5"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": [{"name": "x", "method": "uec"}]}, "did you mean 'uce'"),
        ({"subjects": []}, "give subjects, or trials"),
        ({"subjects": [{"name": "a", "method": "uce"}, {"name": "a", "method": "uce"}]}, "two subjects"),
        ({"concepts": [{"name": "car", "runz": 1}]}, "did you mean 'runs'"),
        ({"audit": {"suite": "bnech"}}, "did you mean 'bench'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, "audit": {"suite": "bench"}, **changes}))
    with pytest.raises(UserError) as caught:
        read_plan(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_run_on_tiny_models(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    Path("suite.yaml").write_text(yaml.safe_dump(SUITE))
    found = bench(ERASURE, "out", read_plan("plan.yaml"))
    assert found.missing == []
    assert [(cell.subject, cell.seed) for cell in found.cells] == [
        ("none", 0),
        ("gold", 0),
        ("UCE", 0),
        ("UCE, once", 0),
        ("UCE", 1),
    ]
    assert found.leaders == ["UCE"]
    assert [(cell.subject, cell.concept) for cell in found.further] == [("none", "boat"), ("UCE", "boat")]
    erased = found.cells[2]
    assert sorted(path.name for path in Path("out/audit/cells").iterdir()) == ["none-car-0", "uce-car-0"]
    assert not Path("out/audit/models").exists()  # the audit opens what the benchmark erased
    assert erased.seconds is not None
    assert erased.seconds > 0
    assert found.cells[0].seconds is None
    assert (
        Path("out/leaderboard.md").read_text().count("| UCE |") == 5
    )  # leaders, attacks, concepts, further twice
    assert len(json.loads(Path("out/leaderboard.json").read_text())["cells"]) == 5
    for name in ("leaderboard.png", "gallery-car.png"):
        assert Path("out", name).read_bytes().startswith(b"\x89PNG")

    told: list[int] = []
    again = bench(ERASURE, "out", read_plan("plan.yaml"), progress=lambda *told_of: told.append(1))
    assert told == []  # nothing is run twice
    assert again.cells == found.cells
    assert main(["bench", "erasure", "--out", "out", "--plan", "plan.yaml", "--table-only"]) == 0
    assert "Further concepts" in capsys.readouterr().out
    assert main(["bench", "erasure", "--out", "out", "--plan", "plan.yaml", "--dry-run"]) == 0
    assert "uce-boat-0" in capsys.readouterr().out
    assert main(["bench", "erasure", "--out", "out", "--plan", "plan.yaml", "--subject", "UEC"]) == 2
    assert "did you mean 'UCE'" in capsys.readouterr().err
    Path("plan.yaml").write_text(yaml.safe_dump({**PLAN, "n": 4}))
    assert main(["bench", "erasure", "--out", "out", "--plan", "plan.yaml"]) == 2
    assert "was begun with another n" in capsys.readouterr().err


def test_balance_weighs_kinds_alike_and_leaders_are_the_best() -> None:
    cells = [
        figures("a", 0.9),
        figures("a", 0.7, seed=1),
        figures("a", 0.2, kind="style"),
        figures("b", 0.6),
        figures("b", 0.6, kind="style"),
        figures("c", 0.1),
    ]
    assert balance([cell for cell in cells if cell.subject == "a"]) == pytest.approx((0.8 + 0.2) / 2)
    assert ranked(cells) == ["b", "a", "c"]


def test_tables_have_controls_first_and_an_interval_over_runs_or_over_pictures() -> None:
    cells = [
        figures("b", 0.5, leakage={"in-set": 0.1}, bounds={"in-set": (0.0, 0.3)}),
        figures("a", 0.8, leakage={"in-set": 0.2}, bounds={"in-set": (0.1, 0.4)}),
        figures("a", 0.6, seed=1, leakage={"in-set": 0.4}, bounds={"in-set": (0.1, 0.4)}),
        figures("none", 0.0, leakage={"in-set": 1.0}, bounds={"in-set": (None, None)}),
    ]
    names, controls = ["b", "a", "none"], ["none"]
    rows = [
        line.split(" | ")[0].strip("| ") for line in leader_table(cells, names, controls).splitlines()[2:]
    ]
    assert rows == ["none", "a", "b"]
    by_concept = concept_table(cells, names, controls)
    assert "| a object | b | 1 | 10 [0, 30] |" in by_concept
    assert "| a object | a | 2 | 30 ± 127 |" in by_concept  # t with one degree of freedom: 12.7 x 0.1
    assert "| a object | none | 1 | 100 [0, 100], too few pictures |" in by_concept


def test_a_gallery_asks_for_the_concept_its_neighbour_and_all_else() -> None:
    def sample(role: str, concept: str, split: str, number: int) -> dict[str, Any]:
        return {
            "role": role,
            "concept": concept,
            "split": split,
            "prompt": f"{concept} {number}",
            "seed": number,
        }

    samples = [sample("target", "car", split, i) for split in ("in-set", "withheld") for i in range(6)]
    samples += [sample("retained", "truck", "in-set", i) for i in range(5)]
    samples += [sample("retained", name, "in-set", i) for name in ("dog", "Pella") for i in range(4)]
    parts = columns_of(samples, "car")
    assert [[each["concept"] for each in part] for part in parts] == [
        ["car"] * 3,
        ["car"] * 3,
        ["truck"] * 2,
        ["dog", "dog", "Pella", "Pella"],
    ]
    assert [each["seed"] for each in parts[0]] == [1, 3, 5]  # spread over all of them
    assert columns_of(samples[:2], "car") == [samples[:2], []]


def test_a_benchmarks_folder_is_one_process_s_and_one_base_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from oubliette.bench.folder import claim

    hashes = {"nano": "a" * 64}
    monkeypatch.setattr(
        "oubliette.backends.open_model", lambda name: SimpleNamespace(fingerprint=lambda: hashes[name])
    )
    out = tmp_path / "new" / "out"
    one = claim(out, {"n": 1}, lambda _: None, "nano")
    one.__enter__()
    with pytest.raises(UserError, match="is at work"), claim(out, {"n": 1}, lambda _: None, "nano"):
        pass
    one.__exit__(None, None, None)
    assert [path.name for path in out.iterdir()] == ["plan.json"]
    hashes["nano"] = "b" * 64
    with (
        pytest.raises(UserError, match=r"another nano .weights aaaaaaaaaaaa, here bbbbbbbbbbbb"),
        claim(out, {"n": 1}, lambda _: None, "nano"),
    ):
        pass


def test_a_damaged_cell_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from oubliette.bench.folder import seal, whole

    cell, beside = tmp_path / "evaluation.json", tmp_path / "samples.jsonl"
    assert not whole(cell, beside)
    cell.write_text("0.25")
    beside.write_text("x")
    assert whole(cell, beside)  # of a version that kept no digests
    seal(cell, beside)
    assert whole(cell, beside)
    beside.write_text("y")
    assert not whole(cell, beside)
    assert "is not as it was when it was done; it is done again" in capsys.readouterr().err
