"""The run: resumed to the same figures, gold's parts kept, everything written at once, JSON as published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit import toys
from eval.fakes import CAR
from oubliette.audit import setup as setting
from oubliette.audit.context import AuditContext
from oubliette.audit.result import Audit
from oubliette.audit.schema import make_schema, schema
from oubliette.core.errors import UserError
from oubliette.workflows import audit as run
from oubliette.workflows.audit import audit, run_rows
from oubliette.workflows.audit_setup import Setting

SUITE = toys.suite(toys.RELEARN, toys.BENIGN, toys.PROBE, toys.PROMPTS, pictures=8, points=3, kept=3)


class Stage:
    """Sets toys in the place of models that names would open."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.drivers: list[toys.ToyDriver] = []
        self.stop_after: int | None = None
        patch.setattr(run, "set_up", self.set_up)

    def set_up(self, *_: Any, suite: Any, cache: Any = None, seed: int = 0, **more: Any) -> Setting:
        driver = toys.ToyDriver()
        driver.stop_after = self.stop_after
        self.drivers.append(driver)
        bench = toys.bench(
            toys.Pupil(half=2.0, source="erased"),
            gold=toys.gold(),
            suite=suite,
            cache=None if cache is None else Path(cache),
            driver=driver,
        )
        bench.seed = seed
        return Setting(bench, {"model": "erased", "base": "original", "gold": "gold"}, ["a note"])


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def go(out: Path, cache: Path | None = None, **more: Any) -> Any:
    return audit("erased", out=out, suite=SUITE, cache=cache, show_progress=False, **more)


def test_everything_is_written_and_nothing_is_left_over(stage: Stage, tmp_path: Path) -> None:
    done = go(tmp_path / "out", tmp_path / "cache", command="oubliette audit")
    assert done.exit_code == 1
    assert done.audit.verdict.word == "hidden"
    names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert names == {
        *("audit.json", "samples.jsonl", "evaluation.json", "suite.yaml", "index.html", "report.json"),
        "prompts/05-prompts-paraphrase.csv",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cache"}
    assert Audit.read(tmp_path / "out") == done.audit
    lines = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert {line["audit_row"] for line in lines} == {row.id for row in done.audit.rows}
    curve = [s for s in lines if s["audit_row"] == "02-relearn-full" and s["subject"] == "model"]
    # 3 points of 8 pictures of the concept and 3 of the rest.
    assert len(curve) == 3 * (8 + 3)


def test_an_audit_that_was_killed_is_resumed_to_the_same_json(stage: Stage, tmp_path: Path) -> None:
    whole = go(tmp_path / "whole", tmp_path / "cache-1").audit
    stage.stop_after = 2  # full fine-tuning of both subjects is done, benign fine-tuning is not
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "parted", tmp_path / "cache-2")
    left = tmp_path / "parted.unfinished"
    assert sorted(p.name for p in (left / "rows").iterdir()) == ["01-evaluation.json", "02-relearn-full.json"]
    assert not (tmp_path / "parted").exists()
    with pytest.raises(UserError, match="--resume"):
        go(tmp_path / "parted", tmp_path / "cache-2")
    stage.stop_after = None
    resumed = go(tmp_path / "parted", tmp_path / "cache-2", resume=True).audit
    assert [source for source, _ in stage.drivers[-1].trained] == ["erased", "gold"]  # benign alone
    assert resumed.compared() == whole.compared()
    assert not left.exists()
    files = [(tmp_path / name / "audit.json").read_text() for name in ("whole", "parted")]
    one, other = (
        {key: value for key, value in json.loads(text).items() if key not in ("times", "record")}
        for text in files
    )
    assert one == other


def test_a_row_cut_in_half_is_run_again(stage: Stage, tmp_path: Path) -> None:
    stage.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "out")
    row = tmp_path / "out.unfinished" / "rows" / "02-relearn-full.json"
    row.write_text(row.read_text()[:200])
    stage.stop_after = None
    go(tmp_path / "out", resume=True)
    assert len(stage.drivers[-1].trained) == 4


def test_resuming_something_else_is_refused(stage: Stage, tmp_path: Path) -> None:
    stage.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "out")
    with pytest.raises(UserError, match="seed was 0, here it is 3"):
        go(tmp_path / "out", resume=True, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["out.unfinished"]


def test_an_audit_cut_before_its_first_row_leaves_nothing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_row", stop)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_anything_is_opened(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(UserError, match="exists already"):
        go(tmp_path / "out")
    assert stage.drivers == []


def test_gold_is_attacked_once_and_its_results_serve_the_next_audit(stage: Stage, tmp_path: Path) -> None:
    first = go(tmp_path / "one", tmp_path / "cache").audit
    second = go(tmp_path / "two", tmp_path / "cache").audit
    assert [source for source, _ in stage.drivers[0].trained].count("gold") == 2
    assert [source for source, _ in stage.drivers[1].trained] == ["erased", "erased"]
    assert first.compared() == second.compared()
    again = go(tmp_path / "three", tmp_path / "cache", seed=1)
    assert ("gold", 1) in stage.drivers[2].trained
    assert again.audit.seed == 1


def bench_of(**more: Any) -> AuditContext:
    return toys.bench(toys.Pupil(half=2.0), suite=toys.suite(toys.RELEARN, pictures=8, points=3), **more)


def test_readings_are_what_was_drawn() -> None:
    """Every rate and leakage against a count by hand of what the pupil draws."""
    bench = bench_of()
    row = run_rows(bench, None, show_progress=False)[1].row
    (curve,) = row.of("model")
    target = bench.meter.target
    luck = np.array([toys.luck(p, s) for p, s in zip(target.prompts, target.seeds, strict=True)])
    for reading in curve.readings:
        strength = 1 - 2 ** (-reading.step / 2.0)
        assert reading.hits == [int(x < strength) for x in luck]
        assert reading.rate.hits == sum(reading.hits)
        assert reading.leakage is not None
        assert reading.leakage.value == pytest.approx(reading.rate.value)  # base shows all, floor none
        assert reading.kept is not None
        assert reading.kept.value == 1
    assert [reading.step for reading in curve.readings] == [0, 7, 64]


def test_attack_and_evaluation_leave_the_weights_alone() -> None:
    bench = bench_of()
    before = bench.model.model.fingerprint()
    run_rows(bench, None, show_progress=False)
    assert bench.model.model.fingerprint() == before


def test_the_published_schema_is_the_one_the_code_makes(stage: Stage, tmp_path: Path) -> None:
    assert schema() == make_schema()
    found = go(tmp_path / "out").audit.to_dict()
    assert set(schema()["properties"]) == set(found)
    assert set(schema()["required"]) <= set(found)
    assert list(complaints(json.loads(json.dumps(found)), schema(), schema())) == []
    found["verdict"]["word"] = 3
    assert list(complaints(found, schema(), schema())) == ["verdict.word: 3 is no string"]


def test_an_audit_of_before_sweeps_and_novel_concepts_is_read(stage: Stage, tmp_path: Path) -> None:
    found = go(tmp_path / "out").audit
    old = found.to_dict()
    del old["novel"]
    for row in old["rows"]:
        del row["sweep"]
        (row["sooner"] or {}).pop("against", None)
    (tmp_path / "audit.json").write_text(json.dumps(old))
    assert Audit.read(tmp_path) == found


def test_a_swept_row_that_was_cut_is_run_again_to_the_same_json(stage: Stage, tmp_path: Path) -> None:
    row = {**toys.RELEARN, "sweep": {"learning_rates": [0.1, 1.0], "seeds": 1}}
    suite = toys.suite(row, pictures=8, points=3, kept=3)
    whole = audit("erased", out=tmp_path / "whole", suite=suite, show_progress=False).audit
    assert whole.rows[1].sweep is not None
    assert whole.rows[1].sweep.winner == 1.0
    stage.stop_after = 3  # both rates and the winner's own run on the model; gold is not done
    with pytest.raises(KeyboardInterrupt):
        audit("erased", out=tmp_path / "out", suite=suite, show_progress=False)
    stage.stop_after = None
    resumed = audit("erased", out=tmp_path / "out", suite=suite, show_progress=False, resume=True).audit
    assert resumed.compared() == whole.compared()
    assert list(complaints(json.loads(resumed.to_json()), schema(), schema())) == []
    assert Audit.read(tmp_path / "out") == resumed


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def complaints(value: Any, rule: dict[str, Any], whole: dict[str, Any], where: str = "") -> Iterator[str]:
    """Where a value breaks the part of JSON Schema that the published one is written in."""
    if "$ref" in rule:
        rule = whole["$defs"][rule["$ref"].rpartition("/")[2]]
    if "anyOf" in rule:
        if all(list(complaints(value, one, whole, where)) for one in rule["anyOf"]):
            yield f"{where}: {value!r} is none of what it may be"
        return
    kind = rule.get("type")
    if kind == "boolean":
        fits = isinstance(value, bool)
    else:
        fits = kind is None or (isinstance(value, TYPES[kind]) and not isinstance(value, bool))
    if not fits:
        yield f"{where}: {value!r} is no {kind}"
    elif "enum" in rule and value not in rule["enum"]:
        yield f"{where}: {value!r} is not among {rule['enum']}"
    elif kind == "array":
        for index, item in enumerate(value):
            yield from complaints(item, rule["items"], whole, f"{where}[{index}]")
    elif kind == "object":
        known, more = rule.get("properties", {}), rule.get("additionalProperties")
        yield from (f"{where}: {name} is missing" for name in rule.get("required", ()) if name not in value)
        for name, item in value.items():
            inner = known.get(name, more if isinstance(more, dict) else {})
            yield from complaints(item, inner, whole, f"{where}.{name}".lstrip("."))


def test_foreign_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(UserError, match="oubliette audit"):
        Audit.read(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        Audit.read(tmp_path / "none")


def test_a_mask_made_for_another_model_is_refused() -> None:
    assert setting.frozen_names(["unet.weight"], toys.base()) == ["unet.weight"]
    with pytest.raises(UserError, match=r"did you mean 'unet\.weight'"):
        setting.frozen_names(["unet.weigth"], toys.base())


def test_a_concept_that_no_judge_covers_is_refused() -> None:
    from oubliette.data.concept import Concept

    with pytest.raises(UserError, match="no judge covers 'dragon'"):
        setting.make_context(
            toys.base(), toys.base(), None, Concept("dragon", "object"), SUITE, judges=[toys.ToyJudge()]
        )
    with pytest.raises(UserError, match="no judge covers 'car'"):
        setting.make_context(toys.base(), toys.base(), None, CAR, SUITE)


def test_a_mask_that_guard_wrote_is_bound_to_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    from oubliette.backends import open_model
    from oubliette.guard.mask import Mask

    model = open_model(tiny_folder, device="cpu")
    names = sorted(name for name in model.tensors() if "attn2.to_k" in name)
    Mask.make(model, names).write(tmp_path / "mask")
    assert setting.frozen_names(tmp_path / "mask", model) == names
    assert setting.frozen_names(tmp_path / "mask" / "guard.json", model) == names
    with torch.no_grad():
        model.tensors()[names[0]].add_(1)
    with pytest.raises(UserError, match=f"is not the base of this mask .* differ: {names[0]}"):
        setting.frozen_names(tmp_path / "mask", model)
