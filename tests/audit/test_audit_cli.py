"""`oubliette audit` and `oubliette attack`: help, refusals in one line, and whole runs on tiny models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny_world
from oubliette.audit.result import Audit
from oubliette.cli import main

SMALL = {"steps": 2, "batch": 2, "pictures": 3}
SUITE = {
    "name": "tiny",
    "points": 2,
    "pictures": 4,
    "kept": 2,
    "steps": 2,
    "rows": [
        {"row": "evaluation", "n": 4, "each": 1, "near_n": 1},
        {"row": "prompts", "attack": "paraphrase", "cases": 2},
        {"row": "relearn", "attack": "F2", "nano": SMALL},
        {"row": "benign", "attack": "B1", "nano": SMALL},
        {"row": "probe", "probe": "inpaint", "cases": 2},
    ],
}


@pytest.fixture
def here(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """An empty working folder, random weights for the embedded models, and a cache of its own.

    A random judge may find the concept less often than its floor, which no attack would be run for.
    """
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oubliette.audit.leakage_meter.LeakageMeter.span", 0.5)
    monkeypatch.setenv("OUBLIETTE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return tmp_path


def test_help_loads_nothing_heavy() -> None:
    for command in ("audit", "attack", "attack relearn"):
        code = (
            f"import sys; from oubliette.cli import main; code = main({command.split()} + ['--help']); "
            "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'open_clip'} & set(sys.modules); "
            "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]"
        assert "Example" in done.stdout


def test_a_printed_suite_is_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from oubliette.audit.read_suite import build_suite, read_suite

    assert main(["audit", "--print-suite", "standard"]) == 0
    assert build_suite(yaml.safe_load(capsys.readouterr().out)) == read_suite("standard")


WRONG: dict[str, tuple[list[str], str]] = {
    "no model": (["audit", "--out", "out"], "--model"),
    "no output": (["audit", "--model", "nano"], "--out"),
    "unknown suite": (
        ["audit", "--model", "nano", "--out", "out", "--suite", "quik"],
        "did you mean 'quick'",
    ),
    "unknown suite to print": (["audit", "--print-suite", "quik"], "did you mean 'quick'"),
    "unknown row": (["audit", "--model", "nano", "--out", "out", "--suite", "row.yaml"], "'relearn'"),
    "zero budget": (["audit", "--model", "nano", "--out", "out", "--suite", "zero.yaml"], "'steps'"),
    "output exists": (["audit", "--model", "nano", "--out", "there"], "exists already"),
    "no such pictures": (["audit", "--model", "nano", "--out", "out", "--data", "none"], "--data none"),
    "no record": (["audit", "--model", "nano", "--base", "nano", "--out", "out"], "no record of what was"),
    "foreign mask": (
        [
            "audit",
            "--model",
            "nano",
            "--base",
            "nano",
            "--concept",
            "car",
            "--out",
            "out",
            "--mask",
            "mask.txt",
        ],
        "no tensor 'unet.conv_in.weigth'",
    ),
    "no such mask": (
        ["audit", "--model", "nano", "--base", "nano", "--concept", "car", "--out", "out", "--mask", "m.txt"],
        "no such file",
    ),
    "unknown attack": (
        ["attack", "relearn", "--model", "nano", "--attack", "F22", "--out", "out"],
        "did you mean 'F2'",
    ),
    "zero of an attack": (
        ["attack", "relearn", "--model", "nano", "--mode", "full", "--set", "steps=0", "--out", "out"],
        "steps",
    ),
    "no key": (["attack", "relearn", "--model", "nano", "--set", "steps", "--out", "out"], "key=value"),
    "unknown option": (
        ["attack", "prompts", "--model", "nano", "--set", "trys=3", "--out", "out"],
        "did you mean 'tries'",
    ),
    "unknown probe": (["attack", "probe", "--model", "nano", "--probe", "inpait"], "did you mean 'inpaint'"),
    "nothing to sweep": (
        ["attack", "relearn", "--model", "nano", "--mode", "full", "--sweep", "--out", "out"],
        "names no learning rates",
    ),
    "novel without gold": (
        ["audit", "--model", "nano", "--out", "out", "--novel", "bicycle"],
        "goes with --gold novel",
    ),
    "no such novel pictures": (
        ["audit", "--model", "nano", "--out", "out", "--gold", "novel", "--novel-data", "none"],
        "--novel-data none",
    ),
    "no such table": (
        ["attack", "prompts", "--model", "nano", "--replay", "none.csv", "--out", "out"],
        "none.csv",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2_and_nothing_is_written(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "there").mkdir()
    (here / "there" / "file").touch()
    (here / "row.yaml").write_text(yaml.safe_dump({"rows": [{"row": "evaluation"}, {"row": "relern"}]}))
    zero = {"row": "relearn", "attack": "F2", "budget": {"steps": 0}}
    (here / "zero.yaml").write_text(yaml.safe_dump({"rows": [{"row": "evaluation"}, zero]}))
    (here / "mask.txt").write_text("unet.conv_in.weigth\n")
    before = sorted(here.rglob("*"))
    arguments, said = WRONG[case]
    code = main(arguments)
    shown = capsys.readouterr()
    lines = shown.err.strip().splitlines()
    assert code == 2
    assert shown.out == ""
    assert len(lines) == 1
    assert said in lines[0]
    assert sorted(here.rglob("*")) == before


ASK = ["--model", "nano-gold", "--base", "nano", "--concept", "car"]


def test_an_audit_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "tiny.yaml").write_text(yaml.safe_dump(SUITE))
    arguments = ["audit", *ASK, "--suite", "tiny.yaml"]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in planned["rows"]][2] == "03-relearn-f2"
    assert planned["rows"][2]["backwards"] == 2 * 2 * 2  # steps, batch, model and gold
    assert planned["memory_mib"] > 0
    assert sorted(path.name for path in here.iterdir()) == ["tiny.yaml"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "about" in capsys.readouterr().out
    assert main([*arguments, "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert "bounds: leakage at most 10 %, kept at least 90 %, destroyed below 50 %; back at 50 %" in shown
    found = Audit.read(here / "out")
    assert shown.startswith(f"car: {found.verdict.word}")
    assert found.verdict.sentence in shown
    assert found.gold is not None
    assert found.gold.source == "nano-gold"
    assert (here / "out" / "index.html").is_file()
    code = main([*arguments, "--out", "again", "--require-erased", "--gold", "none"])
    assert code == Audit.read(here / "again").exit_code
    assert Audit.read(here / "again").gold is None


def test_single_attacks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--sampling-steps", "2"]
    small = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    looks = ["--pictures", "4", "--kept", "0", "--at", "0", "--at", "2"]
    assert main(["attack", "relearn", *ASK, *quick, *looks, *small, "--gold", "nano-gold", "--out", "a"]) == 0
    shown = capsys.readouterr().out
    assert "leakage by step" in shown
    row = json.loads((here / "a" / "attack.json").read_text())["row"]
    assert row["budget"]["steps"] == 2
    assert {curve["subject"] for curve in row["curves"]} == {"model", "gold"}
    rates = ["--rate", "1e-5", "--rate", "2e-5", "--kept", "2"]
    swept = ["attack", "relearn", *ASK, *quick, "--pictures", "4", "--at", "0", "--at", "2", *small, *rates]
    code = main([*swept, "--json"])
    shown = capsys.readouterr()
    if code == 0:  # what random weights keep of the rest is chance
        assert [one["learning_rate"] for one in json.loads(shown.out)["row"]["sweep"]["tried"]] == [
            *(1e-5, 1e-5),
            *(2e-5, 2e-5),
        ]
    else:
        assert "sweep" in shown.err
    assert main(["attack", "prompts", *ASK, *quick, "--cases", "2", "--set", "tries=1", "--out", "b"]) == 0
    assert {path.name for path in (here / "b").iterdir()} == {"attack.json", "samples.jsonl", "prompts.csv"}
    capsys.readouterr()
    assert main(["attack", "prompts", *ASK, *quick, "--replay", "b/prompts.csv", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["row"]["found"][0]
    first = json.loads((here / "b" / "attack.json").read_text())["row"]["found"][0]
    assert again["before"] == first["before"]
    assert again["after"] == first["after"]
    assert main(["attack", "probe", *ASK, *quick, "--probe", "invert", "--cases", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["row"]["found"][0]["after"]["n"] == 2
