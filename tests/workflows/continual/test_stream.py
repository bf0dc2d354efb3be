"""A stream of requests: each from the last result, all measured after each, taken up where it was cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny_language
import tiny_world
from oubliette.backends import open_model
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.data.words import pattern
from oubliette.erase.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.erase.run import erase
from oubliette.workflows.continual.requests import read_requests, settle
from oubliette.workflows.continual.run import run_stream
from oubliette.workflows.order import Job, Order

UCE = Order(method="uce")
SHORT = ["data.prompts=4", "data.pictures=4", "data.picture_steps=2", "train.batch=2"]


def written(path: Path, requests: Any) -> Path:
    path.write_text(requests if isinstance(requests, str) else yaml.safe_dump(requests))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in open_model(folder, device="cpu").tensors().items()}


def same(one: Path, two: Path) -> bool:
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    requests = [{"concept": "car", "anchor": "object"}, {"concept": "dog", "anchor": "animal"}]
    return written(tmp_path / "two.yaml", requests)


# -- reading and settling ------------------------------------------------------------------------------------

WRONG = {
    "nothing": ("", "expected a list of requests"),
    "a mapping": ("concept: car", "expected a list of requests"),
    "no mapping inside": ("- car", "request 1: expected a mapping"),
    "a wrong key": ("- {concept: car}\n- {concpet: dog}", "request 2: unknown key 'concpet'; did you mean"),
    "a wrong value": ("- {concept: car, steps: 0}", "request 1: 'steps'"),
    "no YAML": ("- {concept: car", "not YAML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_list_of_requests_is_one_line(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        read_requests(written(tmp_path / "requests.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        read_requests(tmp_path / "none.yaml")


REFUSED: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "twice": ([{"concept": "car"}, {"concept": "Car"}], {}, "request 2: 'Car' was erased by an earlier"),
    "an erased anchor": (
        [{"concept": "truck", "anchor": "vehicle"}, {"concept": "car", "anchor": "truck"}],
        {},
        "request 2: .*'truck'.*erased before",
    ),
    "an option of one request": (
        [{"concept": "car"}],
        {"anchor": ["object"]},
        "--anchor belongs to one request",
    ),
    "an unknown method": ([{"concept": "car", "method": "ucee"}], {}, "request 1: .*did you mean 'uce'"),
    "a method for language": ([{"concept": "car", "method": "npo"}], {}, "request 1: method 'npo' is for"),
    "steps of a solved one": ([{"concept": "car", "steps": 3}], {}, "request 1: .*takes no number of steps"),
    "an erased word to retain": (
        [{"concept": "car"}, {"concept": "dog", "set": ["data.retain=['a red car']"]}],
        {},
        "request 2: the prompt to retain 'a red car' names 'car'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_before_anything_is_erased(
    case: str, tiny_folder: Path, tmp_path: Path
) -> None:
    requests, options, message = REFUSED[case]
    path = written(tmp_path / "requests.yaml", requests)
    with pytest.raises(UserError, match=message):
        settle(open_model(tiny_folder, device="cpu"), read_requests(path), replace(UCE, **options))


def test_seeds_follow_the_place_and_a_requests_own_options_go_first(
    tiny_folder: Path, tmp_path: Path
) -> None:
    requests = [{"concept": "car"}, {"concept": "dog", "method": "rece"}, {"concept": "cat", "seed": 3}]
    path = written(tmp_path / "requests.yaml", requests)
    stages = settle(open_model(tiny_folder, device="cpu"), read_requests(path), replace(UCE, seed=7))
    assert [stage.recipe.seed for stage in stages] == [7, 8, 3]
    assert [stage.recipe.method["name"] for stage in stages] == ["uce", "rece", "uce"]
    assert [stage.name for stage in stages] == ["01-car", "02-dog", "03-cat"]
    assert [[c.name for c in stage.earlier] for stage in stages] == [[], ["car"], ["car", "dog"]]


@pytest.mark.parametrize("bank", ["general", "world"])
def test_no_prompt_of_a_later_stage_names_an_earlier_concept(
    tiny_folder: Path, tmp_path: Path, bank: str
) -> None:
    requests = [
        {"concept": "mosaic", "anchor": "picture", "kind": "style"},
        {"concept": "car", "anchor": "object"},
        {"concept": "fish", "anchor": "object"},
    ]
    path = written(tmp_path / "requests.yaml", requests)
    order = replace(UCE, overrides=[f"data.bank={bank}", "data.prompts=60", "data.pictures=30"])
    model = open_model(tiny_folder, device="cpu")
    stage = settle(model, read_requests(path), order)[2]
    request = ErasureRequest.from_recipe(stage.recipe)
    data = prepare(model, request, seed=0, show_progress=False)  # type: ignore[arg-type]
    gone = pattern(["mosaic", "mosaics", "tiled", "car", "cars", "automobile"])
    assert len(data.pairs) > 10
    assert not [pair for pair in data.pairs if gone.search(pair.anchor)]
    assert not [prompt for prompt in data.retain_prompts() if gone.search(prompt)]
    assert not [item for item in data.items if gone.search(item.anchor)]


# -- running -------------------------------------------------------------------------------------------------


def test_each_stage_starts_from_the_last_and_opens_alone(
    tiny_folder: Path, tmp_path: Path, two: Path
) -> None:
    done = run_stream(two, UCE, Job(tmp_path / "out", show_progress=False), model=tiny_folder)
    assert [each.stage.name for each in done.stages] == ["01-car", "02-dog"]
    assert same(tmp_path / "out" / "02-dog", tmp_path / "out")
    assert not same(tmp_path / "out" / "01-car", tmp_path / "out")
    first = open_model(tmp_path / "out" / "01-car", device="cpu")
    erase(first, done.stages[1].stage.recipe, show_progress=False)
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, first.tensors()[name]), name
    record = read_manifest(tmp_path / "out")
    assert record["concepts"] == ["car", "dog"]
    assert [spec["name"] for spec in record["recipe"]["concepts"]] == ["car", "dog"]
    assert json.loads((tmp_path / "out" / "stream.json").read_text())["stages"][1]["earlier"] == ["car"]
    assert "| 02-dog | uce |" in (tmp_path / "out" / "stream.md").read_text()
    assert not (tmp_path / "out.unfinished").exists()


def test_a_lora_of_the_whole_stream(tiny_folder: Path, tmp_path: Path, two: Path) -> None:
    run_stream(two, replace(UCE, save="lora"), Job(tmp_path / "out", show_progress=False), model=tiny_folder)
    assert read_manifest(tmp_path / "out")["lora"]["rank"] <= 2
    for name, tensor in weights(tmp_path / "out" / "02-dog").items():
        assert torch.allclose(tensor, weights(tmp_path / "out")[name], atol=1e-5)


class KilledError(Exception):
    """Stands for a signal."""


def killed_at(monkeypatch: pytest.MonkeyPatch, where: str, calls: int) -> None:
    """Make the `calls`-th call of a function of the stream's modules raise."""
    import oubliette.train.loop as loop
    import oubliette.workflows.check as checking

    owner = {"check": checking, "save_checkpoint": loop.Loop}[where]
    original = getattr(owner, where)
    seen: list[int] = []

    def stop(*arguments: Any, **options: Any) -> Any:
        seen.append(1)
        found = original(*arguments, **options) if where == "save_checkpoint" else None
        if len(seen) == calls:
            raise KilledError
        return found if where == "save_checkpoint" else original(*arguments, **options)

    monkeypatch.setattr(owner, where, stop)


def test_a_stream_killed_within_a_stage_ends_as_one_that_was_not(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        {"concept": "car", "anchor": "object", "method": "uce", "set": ["method.prompts=name"]},
        {"concept": "dog", "anchor": "animal", "method": "ablation", "steps": 4},
    ]
    path, order = written(tmp_path / "requests.yaml", requests), Order(overrides=SHORT)
    job = Job(tmp_path / "out", show_progress=False)
    run_stream(path, order, replace(job, out=tmp_path / "whole"), model=tiny_folder)
    with monkeypatch.context() as patch:
        killed_at(patch, "save_checkpoint", 2)
        with pytest.raises(KilledError):
            run_stream(path, order, job, model=tiny_folder)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="was cut short"):
        run_stream(path, order, job, model=tiny_folder)
    other = written(tmp_path / "other.yaml", [requests[0], {**requests[1], "steps": 5}])
    with pytest.raises(UserError, match=r"stream.1.train.steps was 4, here it is 5"):
        run_stream(other, order, replace(job, resume=True), model=tiny_folder)
    done = run_stream(path, order, replace(job, resume=True), model=tiny_folder)
    assert same(tmp_path / "whole", tmp_path / "out")
    assert [each.stage.name for each in done.stages] == ["01-car", "02-dog"]


def test_a_stream_that_never_got_anywhere_leaves_nothing(
    tiny_folder: Path, tmp_path: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import oubliette.erase.run as run

    def stop(*_: Any, **__: Any) -> None:
        raise KilledError

    monkeypatch.setattr(run, "erase", stop)
    with pytest.raises(KilledError):
        run_stream(two, UCE, Job(tmp_path / "deep" / "out", show_progress=False), model=tiny_folder)
    assert not (tmp_path / "deep").exists()


def test_a_judged_stream_shows_every_concept_after_every_request(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import oubliette.workflows.pictures as checking

    monkeypatch.setattr(checking, "_SIZES", (2,))
    monkeypatch.setattr(checking, "_EACH", 1)
    monkeypatch.setattr(checking, "_OTHERS_A_KIND", 1)
    monkeypatch.chdir(tmp_path)
    tiny_world.install(tmp_path / "weights", tiny_folder, monkeypatch)
    written(tmp_path / "requests.yaml", [{"concept": "car"}, {"concept": "mosaic"}])
    command = ["erase", "--model", "nano", "--stream", "requests.yaml", "--method", "uce", "--check", "on"]
    command += ["--set", "data.prompts=6", "--set", "method.retain=given"]
    with monkeypatch.context() as patch:
        killed_at(patch, "check", 2)
        assert main([*command, "--out", "out"]) == 4
        assert "internal error in `oubliette erase`: KilledError" in capsys.readouterr().err
    assert (tmp_path / "out.unfinished" / "01-car" / "report" / "evaluation.json").is_file()
    before = (tmp_path / "out.unfinished" / "01-car" / "report" / "evaluation.json").read_bytes()
    capsys.readouterr()
    assert main([*command, "--out", "out", "--resume"]) == 0
    table = capsys.readouterr().out
    assert "| after request | method | car | mosaic | kept | came back | seconds |" in table
    found = json.loads((tmp_path / "out" / "stream.json").read_text())
    assert [stage["checked"] for stage in found["stages"]] == [True, True]
    assert set(found["stages"][0]["leakage"]) == {"car", "mosaic"}
    assert (tmp_path / "out" / "01-car" / "report" / "evaluation.json").read_bytes() == before
    assert (tmp_path / "out" / "report" / "index.html").is_file()
    two = [
        json.loads((tmp_path / "out" / name / "report" / "evaluation.json").read_text())
        for name in ("01-car", "02-mosaic")
    ]
    assert two[0]["base_fingerprint"] == two[1]["base_fingerprint"]
    assert two[0]["settings"] == two[1]["settings"]
    capsys.readouterr()
    assert main([*command[:-4], "--dry-run", "--json"]) == 0
    assert [stage["stage"] for stage in json.loads(capsys.readouterr().out)] == ["01-car", "02-mosaic"]


def test_a_stream_that_is_not_checked_prints_no_table_of_dashes(
    tiny_folder: Path, tmp_path: Path, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "erase",
        "--model",
        str(tiny_folder),
        "--stream",
        str(two),
        "--method",
        "uce",
        "--check",
        "off",
    ]
    command += ["--set", "method.retain=given", "--set", "data.prompts=6"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "| after request | method | seconds |" in shown
    assert " - " not in shown
    assert (tmp_path / "out" / "stream.md").read_text() in shown


def test_a_required_leakage_makes_the_exit_code(
    tiny_folder: Path, tmp_path: Path, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["erase", "--model", str(tiny_folder), "--stream", str(two), "--method", "uce"]
    assert main([*command, "--require-leakage", "0.1", "--out", str(tmp_path / "out")]) == 3
    assert "not checked: no judge is known" in capsys.readouterr().out
    assert main([*command, "--anchor", "object", "--out", str(tmp_path / "other")]) == 2
    assert "--anchor belongs to one request" in capsys.readouterr().err


def test_a_language_model_forgets_file_after_file(tmp_path: Path) -> None:
    base = tiny_language.save(tmp_path / "base", "llama")
    for name, rows in (("one", tiny_language.FORGET[:1]), ("two", tiny_language.FORGET[1:])):
        tiny_language.write_rows(tmp_path / f"{name}.jsonl", rows)
    requests = [{"forget": str(tmp_path / f"{name}.jsonl")} for name in ("one", "two")]
    path = written(tmp_path / "requests.yaml", requests)
    order = Order(method="npo", steps=2, overrides=["train.batch=1"])
    done = run_stream(path, order, Job(tmp_path / "out", show_progress=False), model=base)
    assert [each.stage.name for each in done.stages] == ["01-one", "02-two"]
    assert same(tmp_path / "out", tmp_path / "out" / "02-two")
    assert done.stages[0].evaluation is None
    stages = json.loads((tmp_path / "out" / "stream.json").read_text())["stages"]
    assert [stage["checked"] for stage in stages] == [True, True]
    assert [stage["answers"][0]["question"] for stage in stages] == [row[0] for row in tiny_language.FORGET]
    assert "judge" not in done.table()


def test_a_lora_that_leaves_much_out_is_one_line_on_stderr(
    tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import warnings

    # As without pytest, which takes warnings for itself.
    monkeypatch.setattr(
        warnings, "showwarning", lambda *said: sys.stderr.write(warnings.formatwarning(*said[:4]))
    )
    command = ["erase", "--model", str(tiny_folder), "--method", "uce", "--check", "off", "--save", "lora"]
    concepts = ["--concept", "car", "--concept", "dog", "--anchor", "object"]
    out = str(tmp_path / "out")
    assert main([*command, *concepts, "--out", out, "--set", "save.rank=1"]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "leaves out" in line]
    assert len(said) == 1
    assert said[0].startswith("oubliette: a LoRA of rank 1 leaves out")
    assert read_manifest(tmp_path / "out")["lora"]["rank"] == 1
