"""Attacks on models that answer which train or change weights, held against figures of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_facts
from oubliette.attack.probes.quantize import round_to_nearest
from oubliette.cli import main

Shown = pytest.CaptureFixture[str]
ASKED, KEPT = 6, 5


def named(facts: Path, model: str = "gold") -> list[str]:
    """A model with its base and rows: gold stands for one that was erased with nothing else lost."""
    rows = [f"--{name}={facts / name}.jsonl" for name in ("forget", "retain")]
    return ["--model", str(facts / model), "--base", str(facts / "base"), *rows]


def judged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples.jsonl").open()]


def test_a_quantized_model_is_asked_the_same_and_judged_alike(
    facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    from oubliette.backends import open_model

    out = tmp_path / "out"
    command = ["attack", "probe", *named(facts_folder, "base"), "--gold", str(facts_folder / "gold")]
    command += ["--probe", "quantize", "--set", "bits=2", "--set", "group=8"]
    command += ["--pictures", str(ASKED), "--kept", str(KEPT), "--cache", str(tmp_path / "cache")]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Probe: quantize, 2 bits, a scale for each 8 of a row" in said
    assert "% kept" in said
    forget, retain = tiny_facts.sets()
    answers = {row["question"]: row["answer"] for row in [*forget, *retain]}
    row = json.loads((out / "attack.json").read_text())["row"]
    for name, subject in (("base", "model"), ("gold", "gold")):
        model: Any = open_model(facts_folder / name)
        own = [one for one in judged(out) if one["subject"] == subject]
        assert len(own) == ASKED + KEPT
        asked = [one["prompt"] for one in own]

        def right(model: Any = model, asked: list[str] = asked) -> list[bool]:
            heard = model.respond(asked, max_new_tokens=12)
            return [answers[question] in text for question, text in zip(asked, heard, strict=True)]

        whole = right()
        for layer in model.model.model.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.data = round_to_nearest(layer.weight.data, 2, 8)
        rounded = right()
        assert [one["hit"] for one in own] == rounded
        found = next(one for one in row["found"] if one["subject"] == subject)
        assert found["before"]["hits"] == sum(whole[:ASKED])
        assert found["after"]["hits"] == sum(rounded[:ASKED])
        assert found["facts"]["kept"] == pytest.approx(sum(rounded[ASKED:]) / KEPT)  # the base knows them all
        assert found["facts"]["layers"] == 3 * 7
    lost = row["note"] == "this itself broke the model, whose silence then says nothing"
    assert lost == (row["found"][0]["facts"]["kept"] == 0)


def test_cases_are_not_for_it(facts_folder: Path, capsys: Shown) -> None:
    command = ["attack", "probe", *named(facts_folder), "--probe", "quantize", "--cases", "3"]
    assert main(command) == 2
    assert "probe 'quantize' has no 'cases'" in capsys.readouterr().err


def test_rows_of_unrelated_matters_are_the_attackers_to_bring(
    facts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    import oubliette.audit.answer_runner as room

    shown: list[Any] = []
    whole = room.Answering

    def noted(model: Any, rows: Any) -> Any:
        shown.append(list(rows))
        return whole(model, rows)

    monkeypatch.setattr(room, "Answering", noted)
    command = ["attack", "relearn", *named(facts_folder), "--attack", "O1", "--points", "2"]
    command += ["--pictures", str(ASKED), "--kept", str(KEPT), "--cache", str(tmp_path / "cache")]
    command += ["--set", "steps=2", "--set", "batch=2"]
    assert main(command) == 2
    assert "wants rows of unrelated matters; give some (--benign)" in capsys.readouterr().err
    sums = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {n} and {n}?", "answer": str(n + n)} for n in range(7)]
    sums.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*command, "--benign", str(sums), "--out", str(tmp_path / "out")]) == 0
    assert [sorted(row.question for row in some) for some in shown] == [[row["question"] for row in rows]]
    made = json.loads((tmp_path / "out" / "attack.json").read_text())["row"]
    assert (made["kind"], made["budget"]["attack"], made["budget"]["data"]) == ("benign", "O1", "unrelated")
    assert [reading["step"] for reading in made["curves"][0]["readings"]] == [0, 2]


def test_what_is_asked_of_the_rest_is_taught_by_no_attack(facts_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        f"{{name: tiny, points: 2, pictures: {ASKED}, kept: {KEPT}, rows: [{{row: evaluation, n: 4}}, "
        "{row: benign, mode: full, data: benign, budget: {pictures: 99, steps: 1, batch: 2}}]}"
    )
    taught: list[Any] = []
    from oubliette.audit.answer_runner import AnswerAttackRunner

    whole = AnswerAttackRunner._shown

    def noted(self: Any, found: Any, seed: int) -> Any:
        taught.append(whole(self, found, seed))
        return taught[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerAttackRunner, "_shown", noted)
        command = ["audit", *named(facts_folder), "--suite", str(suite), "--cache", str(tmp_path / "cache")]
        assert main([*command, "--out", str(out)]) == 0
    _, retain = tiny_facts.sets()
    asked = {one["prompt"] for one in judged(out) if one["audit_row"].startswith("02")}
    assert len(asked) == ASKED + KEPT
    assert not asked & {row.question for rows in taught for row in rows}
    assert len(taught[0]) == len(retain) - KEPT


SWEEP = ["attack", "relearn", "--mode", "full", "--points", "2", "--pictures", "6", "--kept", "8"]


@pytest.mark.parametrize("ruinous", [False, True])
def test_a_sweep_takes_the_worst_rate_that_keeps_the_rest(
    ruinous: bool, facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    """Of two rates one leaves nothing of the rest: it is not taken, however much it might bring back."""
    rates = [1.0, 2.0] if ruinous else [1e-5, 1.0]
    command = [*SWEEP, *named(facts_folder), "--cache", str(tmp_path / "cache")]
    command += [part for rate in rates for part in ("--rate", str(rate))]
    for setting in ("steps=3", "batch=4", "pictures=8"):
        command += ["--set", setting]
    out = tmp_path / "out"
    code = main([*command, "--out", str(out)])
    if ruinous:
        assert code == 2
        assert "no learning rate of the sweep kept 90 % of the rest" in capsys.readouterr().err
        return
    assert code == 0
    row = json.loads((out / "attack.json").read_text())["row"]
    assert row["sweep"]["winner"] == row["budget"]["learning_rate"] == 1e-5
    assert [one["learning_rate"] for one in row["sweep"]["tried"]] == [1e-5, 1e-5, 1.0, 1.0]
    kept = [one["kept"] for one in row["sweep"]["tried"]]
    assert min(kept[:2]) >= 0.9
    assert max(kept[2:]) < 0.9
    last = row["curves"][0]["readings"][-1]
    rest = [one["hit"] for one in judged(out) if one["step"] == 3 and one["concept"] == "retain"]
    assert len(rest) == 8
    assert last["kept"]["value"] == pytest.approx(sum(rest) / 8)


SUITE = f"""
name: small
points: 2
pictures: {ASKED}
kept: {KEPT}
rows:
- {{row: evaluation, n: 4}}
- {{row: relearn, attack: R4, budget: {{pictures: 6, steps: 2, batch: 2, accumulation: 1}}}}
- row: relearn
  attack: R2
  budget: {{pictures: 6, steps: 3}}
  sweep: {{learning_rates: [1.0e-5, 2.0e-5], seeds: 1, keep_at_least: 0.5}}
- {{row: probe, probe: quantize}}
- {{row: probe, probe: quantize, options: {{scheme: nf4}}}}
- {{row: probe, probe: prune}}
- {{row: probe, probe: noise}}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


def test_a_dry_run_counts_what_is_asked_and_trained(facts_folder: Path, suite: Path, tmp_path: Path) -> None:
    from oubliette.workflows.audit import estimate

    rows = {name: facts_folder / f"{name}.jsonl" for name in ("forget", "retain")}
    planned = estimate(
        facts_folder / "gold",
        facts_folder / "base",
        gold=facts_folder / "gold",
        suite=suite,
        cache=tmp_path / "cache",
        **rows,
    )
    from oubliette.backends import open_model

    base: Any = open_model(facts_folder / "base")
    from oubliette.data.questions import QA

    longest = max(
        int(base.encode([QA(row["question"], row["answer"])]).counts()[0]) for row in tiny_facts.rows()
    )
    tokens, look = longest + 8, ASKED + KEPT
    lora, short, *probes = planned.rows[1:]
    assert (lora.subjects, lora.backwards, lora.pictures) == (2, 2 * 4, 2 * 2 * look)
    assert lora.forwards == 2 * 4 + 2 * 2 * look * tokens
    # Two runs of the sweep on the model alone, then one on each subject; a step is four rows one by one.
    assert (short.sweep, short.backwards, short.pictures) == (2, 4 * 3 * 4, 4 * 2 * look)
    for row in probes:
        assert (row.subjects, row.backwards, row.pictures) == (2, 0, 2 * look)
        assert row.forwards == 2 * look * tokens
        assert row.seconds > 0
    assert [row.title.split(",")[0] for row in probes] == [
        "Probe: quantize",
        "Probe: quantize",
        "Probe: prune",
        "Probe: noise",
    ]


def test_an_audit_cut_short_inside_a_probe_ends_as_one_that_was_not(
    facts_folder: Path, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oubliette.attack.probes.quantize import Quantize
    from oubliette.audit.result import Audit

    command = ["audit", *named(facts_folder, "base"), "--gold", str(facts_folder / "gold")]
    command += ["--suite", str(suite)]
    assert main([*command, "--cache", str(tmp_path / "a"), "--out", str(tmp_path / "whole")]) == 0
    calls: list[str] = []
    original = Quantize.changed

    def killed(self: Any, name: str, weight: torch.Tensor) -> torch.Tensor:
        calls.append(name)
        if len(calls) == 30:  # of the model 21 layers were done, of gold some
            raise KeyboardInterrupt
        return original(self, name, weight)

    command += ["--cache", str(tmp_path / "b"), "--out", str(tmp_path / "resumed")]
    with monkeypatch.context() as patch:
        patch.setattr(Quantize, "changed", killed)
        assert main(command) != 0
    assert main([*command, "--resume"]) == 0
    whole, resumed = (Audit.read(tmp_path / name) for name in ("whole", "resumed"))
    assert [row.status for row in whole.rows] == ["done"] * 7
    assert whole.compared() == resumed.compared()
    lines = [(tmp_path / name / "samples.jsonl").read_text() for name in ("whole", "resumed")]
    assert lines[0] == lines[1]
