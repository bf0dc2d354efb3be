"""Benchmarks run whole on tiny models: cells, resumption, tables, and what the command line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import tiny_world
from oubliette.audit.result import Audit
from oubliette.bench.audit.bench import AUDIT
from oubliette.bench.audit.plan import Plan, read_plan
from oubliette.bench.audit.run import states
from oubliette.bench.runner import bench
from oubliette.cli import main
from oubliette.core.errors import UserError

SUITE = {
    "name": "tiny",
    "points": 2,
    "pictures": 4,
    "kept": 2,
    "steps": 2,
    "rows": [
        {"row": "evaluation", "n": 4, "each": 1, "near_n": 1},
        {"row": "prompts", "name": "paraphrase", "attack": "paraphrase", "cases": 2},
        {
            "row": "relearn",
            "name": "full",
            "attack": "F2",
            "nano": {"steps": 2, "batch": 2, "pictures": 3},
        },
    ],
}
PLAN = {
    "name": "tiny",
    "suite": "suite.yaml",
    "concepts": [{"name": "car"}],
    "subjects": [
        {"name": "gold", "control": "gold"},
        {"name": "random weights", "control": "random weights", "attacked": False},
        {"name": "prompt filter", "control": "prompt filter"},
        {"name": "UCE", "method": "uce"},
    ],
}


@pytest.fixture
def plan(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Plan:
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oubliette.audit.leakage_meter.LeakageMeter.span", 0.5)
    Path("suite.yaml").write_text(yaml.safe_dump(SUITE))
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    return read_plan("plan.yaml")


def test_a_benchmark_runs_stops_goes_on_and_says_what_is_missing(
    plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench(AUDIT, "out", plan, subjects=["UCE"])
    assert [cell.subject for cell in first.cells] == ["UCE"]
    assert first.missing == ["gold-car-0", "random-weights-car-0", "prompt-filter-car-0"]
    assert (Path("out/models/uce-car-0") / "delta.safetensors").is_file()
    found = Audit.read("out/cells/uce-car-0")
    assert found.model.source == "out/models/uce-car-0"
    when = Path("out/cells/uce-car-0/audit.json").stat().st_mtime_ns

    told: list[tuple[int, int]] = []
    whole = bench(AUDIT, "out", plan, progress=lambda count, total, note: told.append((count, total)))
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert whole.missing == []
    assert Path("out/cells/uce-car-0/audit.json").stat().st_mtime_ns == when
    by_name = {cell.subject: cell for cell in whole.cells}
    assert set(by_name["gold"].relearned) == {"full"}
    assert by_name["random weights"].relearned == {}
    assert (Path("out") / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| UCE | object | 1 |" in Path("out/audit.md").read_text()
    content = json.loads(Path("out/audit.json").read_text())
    assert [one["subject"] for one in content["cells"]] == [s.name for s in plan.subjects]

    # Nothing is run for the tables alone.
    monkeypatch.setattr("oubliette.bench.audit.run.run_cell", None)
    assert main(["bench", "audit", "--out", "out", "--plan", "plan.yaml", "--table-only"]) == 0
    assert "| UCE | object | 1 |" in capsys.readouterr().out
    assert main(["bench", "audit", "--out", "out", "--plan", "plan.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("done") == 4


def test_an_audit_that_was_cut_short_goes_on(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.workflows import audit as run

    whole = run.run_row

    def cut(key: str, spec: object, bench: object) -> object:
        if key.startswith("03"):
            raise KeyboardInterrupt
        return whole(key, spec, bench)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "run_row", cut)
    with pytest.raises(KeyboardInterrupt):
        bench(AUDIT, "out", plan, subjects=["UCE"])
    assert {cell.key: state for cell, state in states(plan, Path("out"))}["uce-car-0"] == "cut short"
    monkeypatch.setattr(run, "run_row", whole)
    bench(AUDIT, "out", plan, subjects=["UCE"])
    again = bench(AUDIT, "other", plan, subjects=["UCE"])
    assert again.cells[0].relearned == figures(Path("out"), plan)


def figures(out: Path, plan: Plan) -> object:
    return bench(AUDIT, out, plan, run=False).cells[0].relearned


def test_refusals(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the plan has no subject 'UCEE'; did you mean 'UCE'"):
        bench(AUDIT, "out", plan, subjects=["UCEE"])
    assert not Path("out").exists()
    Path("full").mkdir()
    Path("full/x").write_text("")
    with pytest.raises(UserError, match="exists already and holds no benchmark"):
        bench(AUDIT, "full", plan)
    bench(AUDIT, "done", plan, subjects=["random weights"])
    Path("suite.yaml").write_text(yaml.safe_dump({**SUITE, "pictures": 5}))
    with pytest.raises(UserError, match="was begun with another suite"):
        bench(AUDIT, "done", plan)
    assert main(["bench", "audit"]) == 2
    assert "name a folder for the benchmark" in capsys.readouterr().err
    assert main(["bench", "audit", "--print-plan"]) == 0
    assert "name: audit" in capsys.readouterr().out
