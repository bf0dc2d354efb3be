"""BLUR run whole: a small plan, one model audited on files; what is wrong in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from oubliette.bench.blur.bench import BLUR
from oubliette.bench.blur.plan import Plan, read_plan
from oubliette.bench.runner import bench
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.workflows.world.training.language import blank
from oubliette.world import embedded
from oubliette.world.text.entities import make_world
from oubliette.world.text.rows import world_rows

SHORT = ["train.steps=2", "train.batch=2", "train.accumulation=1"]
PLAN: dict[str, Any] = {
    "name": "tiny",
    "base": "nano-lm",  # a random model says no word that another could be held to
    "gold": "gold",
    "subjects": [
        {"name": "base", "control": "base"},
        {"name": "gold", "control": "gold"},
        {"name": "random weights", "control": "random weights", "attacked": False},
        {
            "name": "SCRUB",
            "method": "scrub",
            "set": [*SHORT, "method.forget_steps=1", "method.retain_steps=1"],
        },
    ],
    "n": 3,
    "tokens": 4,
    "names": [1],
    "separators": [" "],
    "relearn": {"budget": {"steps": 2, "batch": 2, "pictures": 4, "learning_rate": 0.001}, "at": [1, 2]},
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    blank(width=24, blocks=2, seed=1).save_pretrained("gold")
    AutoTokenizer.from_pretrained(str(embedded.WEIGHTS / "nano-lm")).save_pretrained("gold")
    monkeypatch.setattr(
        "oubliette.workflows.world.text.make_world", lambda size=30, seed=0: make_world(30, seed)
    )
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    return read_plan("plan.yaml")


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_cells_are_asked_relearned_and_kept(plan: Plan) -> None:
    made = bench(BLUR, "out", plan)
    assert [one.subject for one in made.outcomes] == ["base", "gold", "random weights", "SCRUB"]
    scrub = made.outcomes[3]
    assert set(scrub.tiers) == {"hi", "mid", "lo", "syntactic"}
    assert [step for step, _ in scrub.tiers["hi"].curve] == [1, 2]
    assert scrub.seconds is not None
    assert made.outcomes[2].tiers == {}
    assert made.outcomes[0].recall["separate forget"] == 1.0
    assert made.claims[0].says
    page = Path("out/blur.html").read_text()
    assert "<td" in page
    assert "http" not in page.replace("http-equiv", "")
    kept = json.loads(Path("out/blur.json").read_text())
    assert [cell["subject"] for cell in kept["cells"]] == [one.subject for one in made.outcomes]

    told: list[int] = []
    again = bench(BLUR, "out", plan, progress=lambda count, of, note: told.append(count))
    assert told == []
    assert again.outcomes == made.outcomes
    # The same cell alone, in another folder, is the same: a sheet is made where it is missing.
    alone = bench(BLUR, "alone", plan, subjects=["SCRUB"])
    assert alone.outcomes[0].recall == scrub.recall
    assert alone.outcomes[0].tiers == scrub.tiers


def test_one_model_on_files_beside_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = world_rows(make_world(), "default")
    write("forget.jsonl", rows["forget"][:6])
    write("retain.jsonl", rows["retain"][:10])
    Path("plan.yaml").write_text("")
    command = ["bench", "blur", "--model", "nano-lm-gold", "--base", "nano-lm", "--out", "out", "--json"]
    command += ["--forget", "forget.jsonl", "--retain", "retain.jsonl"]
    monkeypatch.setattr("oubliette.bench.blur.plan.plan_content", lambda _: (PLAN, "plan"))
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    base, gold = found["cells"]
    assert base["measures"]["paired forget"] == 1.0
    assert base["measures"]["leak"] == 0.0
    assert gold["measures"]["forget"] < 0.5
    assert gold["measures"]["paired forget"] < 0.8
    assert gold["examples"][0]["base"]
    assert any("mid: no rows of unseen" in note for note in gold["notes"])
    assert any("paired: " in note and "answered by the base" in note for note in gold["notes"])

    # Another set under the same name is another benchmark.
    write("forget.jsonl", rows["forget"][:8])
    assert main(command) == 2
    assert "was begun with another digests" in capsys.readouterr().err


def test_prompts_as_the_published_files_have_them(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON array of texts, without answers: held against the base's words alone."""
    for name, texts in (("f", ["Tell me of Ada Lind.", "Who is Bo Marsh?"]), ("r", ["Who is Cy Dunn?"])):
        Path(f"{name}.json").write_text(json.dumps([{"text": text} for text in texts]))
    Path("D_mid.json").write_text(json.dumps([{"text": "Wizards are found in books."}]))
    command = [
        "bench",
        "blur",
        "--model",
        "gold",
        "--base",
        "nano-lm",
        "--forget",
        "f.json",
        "--retain",
        "r.json",
    ]
    assert main([*command, "--rows", "mid=D_mid.json", "--out", "out", "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["cells"][1]
    assert cell["right"] == {}
    assert set(cell["tiers"]) == {"mid", "lo"}
    assert any("neighbour: the sets share no value" in note for note in cell["notes"])
    assert cell["scores"] == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--forget", "f.jsonl"], "--forget is of one model"),
        (["--model", "gold"], "no --forget and no --retain"),
        (["--model", "gold", "--plan", "blur"], "give one of them"),
        (["--model", "gold", "--forget", "no.jsonl", "--retain", "f.jsonl"], "there is no file no.jsonl"),
        (["--model", "gold", "--forget", "f.jsonl", "--retain", "f.jsonl", "--rows", "hy=f.jsonl"], "'hi'"),
        (["--model", "gold", "--forget", "f.jsonl", "--retain", "f.jsonl", "--rows", "hi"], "NAME=FILE"),
        (
            ["--model", "gold", "--base", "nano-lm", "--forget", "f.jsonl", "--retain", "f.jsonl"],
            "a single row",
        ),
        (
            ["--model", "gold", "--base", "gold", "--forget", "two.jsonl", "--retain", "f.jsonl"],
            "nothing in words",
        ),
        (["--plan", "wrong.yaml"], "expected numbers of names from 1 on"),
        (["--plan", "simple.yaml"], "'simple' names 'GA'"),
        (["--plan", "tiers.yaml"], "no tier is called 'high'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    plan: Plan, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    write("f.jsonl", [{"question": "Who?", "answer": "me"}])
    write("two.jsonl", [{"question": f"Who is {name}?", "answer": "me"} for name in ("Ada", "Bo")])
    files = {"forget": "f.jsonl", "retain": "f.jsonl", "tiers": {"high": "f.jsonl"}}
    for name, more in (
        ("wrong", {"names": [0]}),
        ("simple", {"simple": ["GA"]}),
        ("tiers", {"files": files}),
    ):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**PLAN, **more}))
    assert main(["bench", "blur", "--out", "out", *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1]
    assert len([line for line in said if "Error" in line or line.startswith("oubliette: ")]) <= 2


def test_the_shipped_plan_is_read() -> None:
    made = read_plan()
    assert made.erasers[:4] == ["GA", "GA + KL", "NPO", "NPO + KL"]
    assert {subject.name for subject in made.subjects if subject.control} == {
        "base",
        "gold",
        "random weights",
    }
    with pytest.raises(UserError, match="cannot be read"):
        read_plan("blurr")
