"""Language models from end to end: erased, checked, measured, attacked, audited, guarded; what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny_facts
from oubliette.cli import main

Shown = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def erased(facts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model from which the rows were erased until little is left of any, its exit code and what it said."""
    folder = tmp_path_factory.mktemp("erased")
    capture = json.loads(_run_json([*erasure(facts_folder, steps=16), "--out", str(folder / "npo")]))
    return SimpleNamespace(path=folder / "npo", said=capture)


def _run_json(command: list[str]) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*command, "--json"]) == 0
    return out.getvalue()


def erasure(facts: Path, *, steps: int, rate: float = 1e-3) -> list[str]:
    return [
        *("erase", "--model", str(facts / "base"), "--method", "npo", "--steps", str(steps)),
        *("--forget", str(facts / "forget.jsonl"), "--retain", str(facts / "retain.jsonl")),
        *("--set", f"train.learning_rate={rate}", "--set", "train.warm_up=0", "--set", "train.batch=8"),
    ]


def leaks(figures: dict[str, Any]) -> list[float]:
    return [one["rate"]["value"] for one in figures["leakage"]]


def test_the_tiny_models_know_what_they_were_taught(facts_folder: Path) -> None:
    from oubliette.backends import open_model

    forget, retain = tiny_facts.sets()
    known = {}
    for name in ("base", "gold"):
        model: Any = open_model(facts_folder / name)
        for what, rows in (("forget", forget), ("retain", retain)):
            said = model.respond([row["question"] for row in rows], max_new_tokens=8)
            right = [text.strip() == row["answer"] for text, row in zip(said, rows, strict=True)]
            known[name, what] = sum(right) / len(right)
    assert known["base", "forget"] == known["base", "retain"] == 1
    assert known["gold", "retain"] > 0.9
    assert known["gold", "forget"] < 0.4


def test_the_check_judges_before_and_after(erased: Any, facts_folder: Path) -> None:
    said = erased.said
    assert said["checked"] is True
    assert said["not_checked_because"] is None
    assert said["likelihood"]["forget"]["before"] > -0.1 > said["likelihood"]["forget"]["after"]
    assert [one["concept"] for one in said["verdicts"]] == ["forget"]
    assert set(said["verdicts"][0]["leakage"]) == {"in-set", "withheld"}
    figures = json.loads((erased.path / "oubliette.json").read_text())["figures"]
    assert figures["verdicts"] == said["verdicts"]
    report = erased.path / "report"
    evaluation = json.loads((report / "evaluation.json").read_text())
    assert evaluation["rows"][1]["name"] == "base"
    assert list(leaks(evaluation["rows"][1]["concepts"][0])) == [1, 1]
    page = (report / "index.html").read_text()
    assert "AutoModelForCausalLM" in page or "text-generation" in page
    assert "DiffusionPipeline" not in page
    assert "Where was" in page


def test_a_required_leakage_decides_the_exit_code(facts_folder: Path, tmp_path: Path, capsys: Shown) -> None:
    """Two updates at a tiny rate leave everything as it was: not erased, and exit code 1."""
    command = [*erasure(facts_folder, steps=2, rate=1e-6), "--require-leakage", "0.1"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "check    forget: not erased (in-set leakage 100 %" in said
    assert "check    log-probability a token" in said
    assert (tmp_path / "out" / "report" / "index.html").is_file()


def test_without_anything_to_keep_only_likelihoods_are_known(
    facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    command = erasure(facts_folder, steps=2, rate=1e-6)
    at = command.index("--retain")
    del command[at : at + 2]
    command += ["--set", "train.retain_weight=0"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "forget: " in said
    assert "check    no verdict: forget: nothing was named that must be kept" in said
    assert not (tmp_path / "out" / "report").exists()
    assert main([*command, "--out", str(tmp_path / "no"), "--require-leakage", "0.1"]) == 2
    assert "--require-leakage needs a verdict, and there could be none" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.fixture(scope="module")
def measured(erased: Any, facts_folder: Path) -> dict[str, Any]:
    command = ["eval", "--model", str(erased.path), "--control", f"gold={facts_folder / 'gold'}"]
    command += ["--n", "16", "--out", str(erased.path.parent / "ev")]
    _run_json(command)
    found: dict[str, Any] = json.loads((erased.path.parent / "ev" / "evaluation.json").read_text())
    return found


def test_an_evaluation_has_base_and_gold_beside_the_model(measured: dict[str, Any], erased: Any) -> None:
    rows = {row["name"]: row["concepts"][0] for row in measured["rows"]}
    assert list(rows) == ["npo", "base", "gold"]
    assert leaks(rows["base"]) == [1, 1]
    assert max(leaks(rows["gold"])) < 0.4
    assert max(leaks(rows["npo"])) < 1
    assert rows["npo"]["verdict"]["word"] in ("destroyed", "not erased")
    assert measured["settings"]["sampler"] == "greedy"
    samples = [json.loads(line) for line in (erased.path.parent / "ev" / "samples.jsonl").open()]
    forget, _ = tiny_facts.sets()
    asked = {one["prompt"] for one in samples if one["role"] == "target" and one["split"] == "withheld"}
    assert asked == {row["paraphrases"][0] for row in forget}


def test_an_evaluation_says_with_its_exit_code_that_it_leaks(
    erased: Any, facts_folder: Path, capsys: Shown
) -> None:
    command = ["eval", "--model", str(facts_folder / "base"), "--base", str(facts_folder / "base")]
    rows = [f"--{name}={facts_folder / name}.jsonl" for name in ("forget", "retain")]
    assert main([*command, *rows, "--n", "8", "--require-leakage", "0.1"]) == 1
    assert "not erased" in capsys.readouterr().out


def test_the_attack_for_answers_teaches_it_again_with_gold_beside(
    erased: Any, facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    out = tmp_path / "attack"
    command = ["attack", "relearn", "--model", str(erased.path), "--gold", str(facts_folder / "gold")]
    command += ["--points", "3", "--pictures", "6", "--kept", "4", "--out", str(out)]
    command += ["--cache", str(tmp_path / "cache")]
    for setting in ("steps=12", "pictures=10", "batch=5", "learning_rate=1e-3"):
        command += ["--set", setting]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "10 rows, 12 steps" in said
    assert "picture" not in said
    found = json.loads((out / "attack.json").read_text())
    curves = found["row"]["curves"]
    assert {curve["subject"] for curve in curves} == {"model", "gold"}
    for curve in curves:
        steps = [reading["step"] for reading in curve["readings"]]
        assert steps[0] == 0
        assert steps[-1] == 12


def _shown_text(page: str | Path) -> str:
    """What a reader sees of a page, the budget's and the recipe's own keys left out."""
    import re

    text = page if isinstance(page, str) else (page / "index.html").read_text()
    for part in ("style", "script", "details", "pre"):
        text = re.sub(rf"<{part}\b.*?</{part}>", "", text, flags=re.S)
    return re.sub(r"<[^>]*>", " ", text)


SUITE = """
name: tiny
points: 3
pictures: 6
kept: 6
rows:
- {row: evaluation, n: 6}
- {row: relearn, mode: full, budget: {pictures: 8, steps: 12, batch: 4, learning_rate: 1.0e-3}}
- {row: benign, mode: full, data: benign, budget: {pictures: 8, steps: 6, batch: 4, learning_rate: 3.0e-4}}
- {row: benign, attack: O1, budget: {pictures: 8, steps: 2, batch: 2}}
- {row: probe, probe: inpaint}
- {row: prompts, attack: affirmation, cases: 4}
- {row: prompts, attack: soft-prompt, cases: 4, options: {tokens: 3, steps: 4, looks: 2}}
- {row: prompts, attack: paraphrase, cases: 4}
- {row: probe, probe: linear-probe, cases: 6, options: {depths: [0.34, 1.0]}}
- {row: probe, probe: logit-lens, cases: 4, options: {depths: [0.34]}}
- {row: probe, probe: quantize, options: {bits: 3}}
"""


def test_an_audit_rules_and_its_page_holds_the_answers(
    erased: Any, facts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    import jsonschema

    from oubliette.audit.schema import schema

    suite, out = tmp_path / "suite.yaml", tmp_path / "audit"
    suite.write_text(SUITE)
    command = ["audit", "--model", str(erased.path), "--gold", str(facts_folder / "gold")]
    command += ["--suite", str(suite), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    from oubliette.audit.answer_runner import AnswerAttackRunner

    original = AnswerAttackRunner.relearn
    calls: list[Any] = []

    def killed(self: Any, *given: Any, **more: Any) -> str:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(AnswerAttackRunner, "relearn", killed)
        assert main(command) != 0
    assert not out.exists()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(AnswerAttackRunner, "relearn", killed)
        assert main([*command, "--resume"]) == 0
    found = json.loads((out / "audit.json").read_text())
    jsonschema.validate(found, schema())
    assert found["concept"]["kind"] == "fact"
    rows = {row["id"].split("-", 1)[1]: row for row in found["rows"]}
    for name in ("probe-inpaint", "prompts-paraphrase"):
        assert (rows[name]["status"], rows[name]["moot"]) == ("skipped", True)
    for name, cases in {"prompts-affirmation": 4, "prompts-soft-prompt": 4, "probe-logit-lens": 4}.items():
        assert [one["subject"] for one in rows[name]["found"]] == ["model", "gold"]
        assert [one["after"]["n"] for one in rows[name]["found"]] == [cases, cases]
        assert len(rows[name]["excess"]) == 1
    probe = rows["probe-linear-probe"]
    assert [one["facts"]["block"] for one in probe["found"]] == [1, 3, 1, 3]
    assert [one["where"] for one in probe["excess"]] == ["block 1", "block 3"]
    # What was kept can be read where the model has it, at its end.
    assert probe["found"][3]["facts"]["retain"] > 0.3
    assert "block 3" in (out / "index.html").read_text()
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    begun = [one for one in samples if one.get("opening")]
    assert begun
    assert all(isinstance(one["text"], str) for one in begun)
    assert "[Sure, here is the answer:]" in (out / "index.html").read_text() or not any(
        one["hit"] for one in begun
    )
    assert len(calls) == 5  # two a row, and one that was killed: the row that was done was not done again
    page = (out / "index.html").read_text()
    forget, _ = tiny_facts.sets()
    assert any(row["question"] in page for row in forget)
    assert any(f">{row['answer']}<" in page or row["answer"] in page for row in forget)
    rounded = found["rows"][-1]["found"]
    assert [one["subject"] for one in rounded] == ["model", "gold"]
    for one in rounded:
        assert one["before"]["n"] == one["after"]["n"] == 6
        kept = f"{one['facts']['kept']:.0%}".replace("%", " %").replace(" ", "\u00a0")
        assert kept in page.replace(" %", "\u00a0%")
    assert "Kept of the rest" in page.split("Probe: quantize")[-1]
    for text in (json.dumps(found["verdict"]), _shown_text(page), _shown_text(erased.path / "report")):
        text = text.replace("needs a model that draws", "")
        for word in ("picture", "drawn", "draws", "to draw"):
            assert word not in text, f"{word}: …{text[max(0, text.find(word) - 80) :][:160]}…"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["eval", "--concept", "car"], "is a model that answers; what it was to forget are rows (--forget)"),
        (
            ["eval", "--judge", "oracle"],
            "is a model that answers, and judges that are named look at pictures",
        ),
        (["eval", "--forget", "FORGET"], "nothing was named that must be kept"),
        (
            ["eval", "--retain", "RETAIN"],
            "no record of what was to be forgotten; name the rows (--forget)",
        ),
        (["eval", "--forget", "missing.jsonl"], "--forget missing.jsonl: no such file"),
        (["eval", "--forget", "PLAIN", "--retain", "RETAIN"], "none of its 1 rows is a question"),
        (["attack", "relearn", "--kind", "object"], "rows (--forget), not a kind"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    command: list[str], said: str, facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"text": "A plain text."}\n')
    names = {
        "FORGET": str(facts_folder / "forget.jsonl"),
        "RETAIN": str(facts_folder / "retain.jsonl"),
        "PLAIN": str(plain),
    }
    base = str(facts_folder / "base")
    out = ["--out", str(tmp_path / "out")]
    assert main([*(names.get(one, one) for one in command), "--model", base, "--base", base, *out]) == 2
    shown = capsys.readouterr().err.strip()
    assert said in shown
    assert len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_rows_are_not_for_models_that_draw(tiny_folder: Path, facts_folder: Path, capsys: Shown) -> None:
    command = ["eval", "--model", str(tiny_folder), "--base", str(tiny_folder)]
    assert main([*command, "--forget", str(facts_folder / "forget.jsonl")]) == 2
    assert "names rows for a model that answers" in capsys.readouterr().err


def test_a_record_whose_file_is_gone_says_which(erased: Any, tmp_path: Path, capsys: Shown) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(erased.path, moved)
    record = json.loads((moved / "oubliette.json").read_text())
    record["recipe"]["forget"] = str(tmp_path / "gone.jsonl")
    (moved / "oubliette.json").write_text(json.dumps(record))
    assert main(["eval", "--model", str(moved)]) == 2
    assert "gone.jsonl as what it was to forget, and that is not there; name it (--forget)" in (
        capsys.readouterr().err
    )


def test_a_guard_is_learned_applied_verified_and_measured(
    facts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.chdir(tmp_path)
    gold, forget, retain = (str(facts_folder / name) for name in ("gold", "forget.jsonl", "retain.jsonl"))
    sides = ["--illegal", forget, "--innocent", retain]
    learn = ["guard", "learn", "--model", gold, *sides, "--out", "mask", "--learner", "saliency"]
    learn += ["--budget", "0.5", "--no-stability", "--user", "steps=2", "--user", "batch=2"]
    assert main(learn) == 0
    apply = ["guard", "apply", "--mask", "mask", "--model", gold, "--data", forget, "--out", "tuned"]
    apply += ["--set", "steps=2", "--set", "batch=2", "--set", "learning_rate=1e-3"]
    assert main(apply) == 0
    assert main(["guard", "verify", "--mask", "mask", "--tuned", "tuned"]) == 0
    capsys.readouterr()
    measure = ["guard", "measure", "--mask", "mask", "--model", gold, *sides, "--pictures", "6"]
    measure += ["--set", "steps=4", "--set", "batch=4", "--set", "learning_rate=1e-3"]
    assert main([*measure, "--out", "measured"]) == 0
    assert "illegal" in capsys.readouterr().out
    from oubliette.guard.mask import read_mask

    found = read_mask("measured").measured
    assert (found["n"], found["judge"], found["at"]) == (6, "answers", [0, 1, 4])
    for side, source in (("illegal", forget), ("innocent", retain)):
        one = found[side][source]
        assert one["with"][0] == one["without"][0]
    assert found["innocent"][retain]["without"][0] > 0.8
    assert "answers to rows that were not shown" in found["recoverable"]
    assert main([*measure, "--judge", "oracle", "--out", "no"]) == 2
    assert "judges look at pictures" in capsys.readouterr().err


def test_what_a_user_is_asked_was_not_shown(facts_folder: Path) -> None:
    from oubliette.backends import open_model
    from oubliette.workflows.modality import modality_of
    from oubliette.workflows.user_data import Teaching, read_source

    model: Any = open_model(facts_folder / "gold")
    source = read_source(str(facts_folder / "forget.jsonl"))
    how: Any = None
    lesson = modality_of(model).lesson(model, Teaching(source, None, 100, 100, how))
    assert len(lesson.asked) == len(lesson.data) == 8
    shown = {
        tuple(row[row >= 0].tolist())
        for row in lesson.data._rows.input_ids  # type: ignore[attr-defined]
    }
    from oubliette.data.questions import QA

    for asked in lesson.asked.prompts:
        row = next(r for r in tiny_facts.sets()[0] if r["question"] == asked)
        own = model.encode([QA(row["question"], row["answer"])]).input_ids[0].tolist()
        assert not any(list(one)[: len(own)] == own for one in shown)
    few = modality_of(model).lesson(model, Teaching(source, None, 3, 2, how))
    assert (len(few.asked), len(few.data)) == (2, 3)
    assert few.shortened(1).asked.prompts == few.asked.prompts[:1]


@pytest.mark.parametrize("pace", [0.001, 0.2, 0.5, 0.75, 2.0])
def test_auto_asks_as_many_as_fit_into_its_minute(
    pace: float, facts_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from oubliette.backends import open_model
    from oubliette.data.questions import read_questions
    from oubliette.eval.text.decoding import Decoding
    from oubliette.workflows.answers import Answers
    from oubliette.workflows.check import AUTO_SECONDS, fitted

    monkeypatch.setattr(Answers, "seconds", lambda self, before, evaluator: pace)
    model: Any = open_model(facts_folder / "gold")
    weights: Any = SimpleNamespace(originals=nullcontext)
    sets = {name: read_questions(facts_folder / f"{name}.jsonl") for name in ("forget", "retain")}

    def asked(size: int) -> int:
        """The forget set in two wordings and the retain set, of the model and of the base; the floor is the
        retain set's questions again, as they are.
        """
        forget, retain = min(size, 16), min(size, 32)
        return 2 * (2 * forget + retain)

    found = fitted(model, weights, [], mode="auto", judges=[], sets=sets)
    size, reason = found.size, found.reason
    able = [one for _, one in Answers().tries(Decoding(), fixed=False) if pace * asked(one) <= AUTO_SECONDS]
    assert size == (able[0] if able else None)
    assert ("it would take about" in reason) is (not able)
    assert fitted(model, weights, [], mode="on", judges=[], sets=sets)[:2] == (400, "")


def test_an_answers_time_is_taken_on_a_few(facts_folder: Path) -> None:
    from oubliette.backends import open_model
    from oubliette.data.questions import read_questions
    from oubliette.workflows.modality import ANSWERS

    model: Any = open_model(facts_folder / "gold")
    sets = {name: read_questions(facts_folder / f"{name}.jsonl") for name in ("forget", "retain")}
    evaluator = ANSWERS.checker(model, [], [], sets, None)
    assert not isinstance(evaluator, str)
    assert evaluator.concepts[0].name == "forget"
    assert 0 < ANSWERS.seconds(model, evaluator) < 2
    assert ANSWERS.checker(model, [], [], {}, None) == (
        "no rows to forget were named (of a stream, each request has its own)"
    )


def test_prompts_that_were_found_are_put_to_another_model(
    erased: Any, facts_folder: Path, tmp_path: Path, capsys: Shown
) -> None:
    """What a begun answer brought back from one model is tried on another, and judged by its question."""
    line = ["attack", "prompts", "--model", str(erased.path)]
    search = [*line, "--attack", "affirmation", "--cases", "4", "--pictures", "4"]
    assert main([*search, "--out", str(tmp_path / "found"), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["row"]["found"][0]
    again = [*line, "--pictures", "4", "--replay", str(tmp_path / "found" / "prompts.csv")]
    assert main([*again, "--out", str(tmp_path / "again"), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)["row"]["found"][0]
    assert (second["before"], second["after"]) == (first["before"], first["after"])
    samples = (tmp_path / "again" / "samples.jsonl").read_text().splitlines()
    assert len(samples) == 4
    assert all("text" in said or said["before"] for said in map(json.loads, samples))
    csv = tmp_path / "strange.csv"
    csv.write_text("case_number,prompt,evaluation_seed\n0,Who is it?,1\n")
    assert main([*line, "--replay", str(csv)]) == 2
    assert "'Who is it?' is no question of forget" in capsys.readouterr().err
