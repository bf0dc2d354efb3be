"""A stream that grows an attachment: request after request on a language model, audited, taken off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny_language
from oubliette.audit.result import Audit
from oubliette.backends import open_model
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.workflows.continual.requests import read_requests, settle
from oubliette.workflows.continual.run import run_stream
from oubliette.workflows.order import Job, Order

OVER = ["method.blocks=[0, 1]", "train.batch=2", "train.learning_rate=0.05", "train.optimizer=adam"]
ORDER = Order(method="mrp", overrides=OVER, steps=4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_language.save(tmp_path / "base", "llama")
    tiny_language.write_rows(tmp_path / "retain.jsonl", tiny_language.RETAIN)
    for name, rows in (("one", tiny_language.FORGET[:1]), ("two", tiny_language.FORGET[1:])):
        tiny_language.write_rows(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def asked(root: Path, *more: dict[str, Any]) -> Path:
    requests = [{"forget": str(root / f"{name}.jsonl")} for name in ("one", "two")]
    for request, own in zip(requests, more, strict=False):
        request.update(own)
    (root / "requests.yaml").write_text(yaml.safe_dump(requests))
    return root / "requests.yaml"


def streamed(root: Path, out: str, *, model: Path | None = None, resume: bool = False) -> Any:
    order = replace(ORDER, retain=root / "retain.jsonl")
    job = Job(root / out, resume=resume, show_progress=False)
    return run_stream(asked(root), order, job, model=model or root / "base")


def logits(folder: Any) -> torch.Tensor:
    with torch.no_grad():
        model: Any = open_model(folder, device="cpu")
        found: torch.Tensor = model.rehearse(2)
        return found


def test_each_request_adds_its_directions_and_the_base_stays(root: Path) -> None:
    before = {file.name: file.read_bytes() for file in (root / "base").iterdir()}
    done = streamed(root, "out")
    assert [each.stage.name for each in done.stages] == ["01-one", "02-two"]
    first, last = (open_model(root / "out" / part, device="cpu").attachment for part in ("01-one", "."))
    assert (len(first.basis(0)), len(last.basis(0))) == (2, 4)
    assert torch.equal(last.basis(0)[:2], first.basis(0))
    assert torch.equal(logits(root / "out"), logits(root / "out" / "02-two"))
    assert not torch.equal(logits(root / "out"), logits(root / "out" / "01-one"))
    assert {file.name: file.read_bytes() for file in (root / "base").iterdir()} == before
    record = read_manifest(root / "out")
    assert (record["form"], record["base"]["source"]) == ("attached", str(root / "base"))
    stages = json.loads((root / "out" / "stream.json").read_text())["stages"]
    assert [stage["answers"][0]["question"] for stage in stages] == [row[0] for row in tiny_language.FORGET]
    # Both are compared with what the stream began with.
    starts = [stage["likelihood"]["retain"]["before"] for stage in stages]
    assert starts[0] == starts[1]


@pytest.mark.parametrize("at", [(1, 2), (2, 1), (2, 3)])
def test_a_stream_killed_anywhere_ends_as_one_that_was_not(root: Path, at: tuple[int, int]) -> None:
    """Killed in the request's such-and-such checkpoint."""
    from oubliette.train.loop import Loop

    original, seen = Loop.save_checkpoint, {"runs": 0, "saved": 0}

    def stop(loop: Any) -> None:
        original(loop)
        seen["runs"] += loop.step == 1
        seen["saved"] = loop.step
        if (seen["runs"], seen["saved"]) == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oubliette.workflows.continual.stages.with_checkpoints", _every_step)
        streamed(root, "whole")
        patch.setattr(Loop, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            streamed(root, "out")
        patch.setattr(Loop, "save_checkpoint", original)
        streamed(root, "out", resume=True)
    whole, found = (open_model(root / name, device="cpu") for name in ("whole", "out"))
    assert found.fingerprint() == whole.fingerprint()
    assert torch.equal(logits(root / "out"), logits(root / "whole"))


def _every_step(recipe: Any, least: int = 1) -> Any:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"checkpoint_every": 1})})


def test_a_stream_goes_on_from_one_that_was_saved(root: Path) -> None:
    streamed(root, "out")
    done = streamed(root, "more", model=root / "out")
    found = open_model(root / "more", device="cpu").attachment
    assert len(found.basis(0)) == 8
    assert torch.equal(found.basis(0)[:4], open_model(root / "out", device="cpu").attachment.basis(0))
    assert read_manifest(root / "more")["base"]["source"] == str(root / "base")
    assert done.stages[0].answers is not None


REFUSED: dict[str, tuple[tuple[dict[str, Any], ...], str]] = {
    "weights after it": (({}, {"method": "npo"}), "request 2: method 'npo' cannot go on from 'mrp'"),
    "it after weights": (({"method": "npo"}, {}), "request 2: method 'mrp' cannot go on from 'npo'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_and_attachments_do_not_mix(root: Path, case: str) -> None:
    more, message = REFUSED[case]
    own = [{"set": ["method.blocks=[0]"]} if "method" not in one else one for one in more]
    path = asked(root, *own)
    with pytest.raises(UserError, match=message + ": a stream either changes weights or grows one"):
        settle(open_model(root / "base", device="cpu"), read_requests(path), Order(method="mrp"))


def test_what_is_attached_is_gone_on_with_by_its_own_method_alone(root: Path) -> None:
    streamed(root, "out")
    model = open_model(root / "out", device="cpu")
    with pytest.raises(UserError, match=r"request 1: .*'mrp' is attached, which 'npo' cannot build on"):
        settle(model, read_requests(asked(root)), Order(method="npo"))


def test_attachments_that_do_not_grow_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "requests.yaml").write_text("[{concept: car, anchor: object}]")
    model = open_model(tiny_folder, device="cpu")
    with pytest.raises(UserError, match="request 1: method 'sld' is attached: no later request can build on"):
        settle(model, read_requests(tmp_path / "requests.yaml"), Order(method="sld"))


SUITE = """
name: tiny
points: 2
pictures: 6
kept: 6
rows:
- {row: evaluation, n: 6}
- {row: relearn, mode: full, budget: {pictures: 8, steps: 4, batch: 4, learning_rate: 1.0e-3}}
- {row: probe, probe: detach, cases: 6}
"""


def test_from_the_command_line_to_an_audit_that_takes_it_off(
    facts_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts are forgotten file after file; the audit finds the weights to be the base's."""
    monkeypatch.chdir(tmp_path)
    lines = (facts_folder / "forget.jsonl").read_text().splitlines(keepends=True)
    for name, some in (("first", lines[:8]), ("second", lines[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(some))
    (tmp_path / "stream.yaml").write_text("[{forget: first.jsonl}, {forget: second.jsonl}]")
    command = ["erase", "--model", str(facts_folder / "base"), "--stream", "stream.yaml", "--method", "mrp"]
    command += ["--retain", str(facts_folder / "retain.jsonl"), "--steps", "30", "--save", "attached"]
    for one in ("method.blocks=[0, 1]", "method.directions=8", *OVER[2:], "train.batch=8"):
        command += ["--set", one]
    assert main([*command, "--out", "out"]) == 0
    assert "02-second" in capsys.readouterr().out
    stages = json.loads((tmp_path / "out" / "stream.json").read_text())["stages"]
    for stage in stages:
        found = stage["likelihood"]["forget"]
        assert found["after"] < found["before"] - 0.3
    (tmp_path / "suite.yaml").write_text(SUITE)
    audit = ["audit", "--model", "out", "--gold", str(facts_folder / "gold"), "--suite", "suite.yaml"]
    rows = ["--forget", str(facts_folder / "forget.jsonl"), "--retain", str(facts_folder / "retain.jsonl")]
    main([*audit, *rows, "--cache", "cache", "--out", "audit"])
    result = Audit.read(tmp_path / "audit")
    assert [row.status for row in result.rows] == ["done"] * 3
    shown = {made.subject: made.after for made in result.rows[2].found}
    assert (shown["model"].hits, shown["model"].n) == (6, 6)
    assert shown["gold"].hits < 4
    assert result.verdict.word != "erased"
    assert result.model.fingerprint != result.base.fingerprint
    page = (tmp_path / "audit" / "index.html").read_text()
    assert "taking off what is attached" in page
