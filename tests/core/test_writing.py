"""Writers: each is whole or not there, and a disk that takes no more is one line with the path."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import tiny
from oubliette.attack.prompts.cases import Case
from oubliette.attack.prompts.records import Found, write_found
from oubliette.backends.files.adapters import save_peft_adapters
from oubliette.backends.files.delta import write_delta
from oubliette.bench.folder import claim
from oubliette.cli import main
from oubliette.core import manifest, writing
from oubliette.core.errors import UserError
from oubliette.data.picture_sheet import write_sheet
from oubliette.erase import latents
from oubliette.eval.sample_store import SampleStore, _encoded
from oubliette.recipe import Recipe
from oubliette.train.checkpoint import read_checkpoint, write_checkpoint
from oubliette.train.run_log import RunLog

PICTURES = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
TENSORS = {"a": torch.arange(60_000.0)}
LONG = "x" * 200_000


def _log(folder: Path) -> None:
    log = RunLog(folder / "log.jsonl")
    log.rewind(0)
    log.write({"step": 1, "note": LONG})


def _found(folder: Path) -> None:
    write_found(folder / "a.csv", [Found(Case("a", 1), LONG, False, True, 1)], attack="a", concept="car")


def _adapters(folder: Path) -> None:
    values = {"m.weight.lora_A": torch.zeros(4, 20_000), "m.weight.lora_B": torch.zeros(20_000, 4)}
    save_peft_adapters(folder, values, rank=4, alpha=4, base="x")


def _folder(folder: Path) -> None:
    with manifest.atomic_folder(folder / "out") as inside:
        (inside / "plain.txt").write_text(LONG)


def _copied(folder: Path) -> None:
    from safetensors.torch import save_file

    from oubliette.backends.files.stored import rewrite

    source = Path(os.environ["TMPDIR_FOR_TEST"]) / "source.safetensors"
    save_file(TENSORS, str(source))
    rewrite(source, folder / "rewritten.safetensors", {})


WRITERS: dict[str, Any] = {
    "json": lambda folder: manifest.write_json(folder / "a.json", {"text": LONG}),
    "record": lambda folder: manifest.write_manifest(folder, {"text": LONG}),
    "page": lambda folder: writing.write_bytes(folder / "index.html", LONG.encode()),
    "sheet": lambda folder: write_sheet(np.repeat(PICTURES, 16, axis=0), folder / "sheet.png", 8),
    "picture cache": lambda folder: [
        SampleStore(folder / "cache")._write(f"{'0' * 16}-{number}", *_encoded(PICTURES[number % 4]))
        for number in range(40)
    ],
    "latent cache": lambda folder: latents._write(folder / "latents" / "a.safetensors", TENSORS["a"]),
    "checkpoint": lambda folder: write_checkpoint(folder / "checkpoint", TENSORS, {"step": 1}),
    "log": _log,
    "delta": lambda folder: write_delta(folder, TENSORS, {}),
    "weights": _copied,
    "adapters": _adapters,
    "found prompts": _found,
    "folder": _folder,
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 100 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True)
    except OSError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_with_path_and_free_space(
    writer: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR_FOR_TEST", str(tmp_path))
    with pytest.raises(UserError) as refused:
        WRITERS[writer](small)
    line = str(refused.value)
    assert line.startswith(str(small))
    assert "No space left on device" in line
    assert f"are free in {small}" in line
    assert ".tmp" not in line
    if writer in ("picture cache", "log", "adapters"):  # what was whole before stays
        assert not [path for path in _files(small) if path.suffix == ".tmp"]
    else:
        assert _files(small) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_fills_up_is_said_where_nothing_can_be_mounted(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = tmp_path / "out"
    goal.mkdir()
    monkeypatch.setenv("TMPDIR_FOR_TEST", str(tmp_path))
    if writer == "weights":
        WRITERS["json"](tmp_path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: Any, **__: Any) -> None:
        raise full

    def fail_in_rust(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    import safetensors.torch

    if writer in ("delta", "weights", "adapters", "checkpoint"):
        if writer == "weights":
            saved = safetensors.torch.save_file
            calls: list[int] = []

            def second(*given: Any, **named: Any) -> None:
                calls.append(1)
                saved(*given, **named) if len(calls) == 1 else fail_in_rust()

            monkeypatch.setattr(safetensors.torch, "save_file", second)
        else:
            monkeypatch.setattr(safetensors.torch, "save_file", fail_in_rust)
    else:
        monkeypatch.setattr(Path, "write_bytes", fail)
        monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(UserError, match=r"No space left on device; .* are free in"):
        WRITERS[writer](goal)
    monkeypatch.undo()
    assert [path for path in _files(goal) if path.suffix != ".json" or writer != "adapters"] == []


def test_an_earlier_checkpoint_is_kept(small: Path) -> None:
    write_checkpoint(small, {"a": torch.ones(8)}, {"step": 1})
    with pytest.raises(UserError, match="No space left"):
        write_checkpoint(small, TENSORS, {"step": 2})
    tensors, facts = read_checkpoint(small)
    assert (facts, tensors["a"].tolist()) == ({"step": 1}, [1.0] * 8)


def test_what_is_no_fault_of_the_disk_goes_on_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing.writing(tmp_path / "a"):
        raise ZeroDivisionError
    with pytest.raises(OSError, match="offline") as kept, writing.writing(tmp_path / "a"):
        raise OSError("offline")
    assert not isinstance(kept.value, UserError)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENAMETOOLONG])
def test_every_reason_names_the_file(code: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=os.strerror(code)) as refused, writing.writing(tmp_path / "a"):
        raise OSError(code, os.strerror(code), str(tmp_path / "a"))
    assert str(tmp_path / "a") in str(refused.value)


def test_missing_parents_are_made_and_said_and_go_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = tmp_path / "deep" / "er" / "a.json"
    with pytest.raises(FileExistsError), writing.parents(goal):
        goal.parent.mkdir()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == f"oubliette: made the folder {goal.parent} for a.json\n"
    with writing.parents(goal):
        goal.write_text("x")
    with writing.parents(goal):
        pass
    assert capsys.readouterr().err.count("made the folder") == 1


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for goal in (tmp_path / "file" / "a", tmp_path / "file" / "deep" / "a"):
        with pytest.raises(UserError, match="Not a directory"):
            manifest.refuse_existing(goal)


@pytest.mark.parametrize("goal", ["", ".", "/", "..", "x" * 300, "a\0b"])
def test_what_cannot_be_a_new_file_is_refused(
    goal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        manifest.refuse_existing(goal)


# -- whole commands ------------------------------------------------------------------------------------------

UCE = ["--concept", "car", "--anchor", "object", "--method", "uce", "--set", "method.prompts=name"]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A pipeline that is larger than the small disk."""
    return tiny.save(tiny.pipeline(), tmp_path / "large")


@pytest.mark.parametrize("form", ["full", "delta", "lora"])
def test_an_erasure_onto_a_full_disk_ends_with_2_and_leaves_nothing(
    form: str, small: Path, large: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "filler").write_bytes(bytes(90_000))
    arguments = ["erase", "--model", str(large), *UCE, "--save", form, "--check", "off"]
    assert main([*arguments, "--out", str(small / "new" / "x")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "No space left on device" in lines[-1]
    assert f"{small / 'new' / 'x'}: " in lines[-1]
    assert [path.name for path in small.iterdir()] == ["filler"]


def test_commands_refuse_a_read_only_disk_before_they_work(
    small: Path, large: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    monkeypatch.setattr("oubliette.backends.open_model", lambda *_, **__: pytest.fail("work was begun"))
    monkeypatch.setattr("oubliette.backends.open_model", lambda *_, **__: pytest.fail("work was begun"))
    model = ["--model", str(large)]
    out = ["--out", str(small / "new" / "x")]
    for arguments in (
        ["sample", *model, "--prompt", "a", "--out", str(small / "new" / "x.png")],
        ["erase", *model, *UCE, *out],
        ["eval", *model, *out],
        ["audit", *model, *out],
        ["protocol", "harmonic", *model, *out],
        ["world", "draw", "--out", str(small / "x.png")],
        ["demo", *out],
        ["guard", "learn", *model, "--illegal", "a", "--innocent", "b", *out],
        ["attack", "prompts", *model, *out],
    ):
        assert main(arguments) == 2, arguments
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert "Read-only file system" in lines[0]
    with (
        pytest.raises(UserError, match="Read-only file system"),
        claim(small / "new" / "x", {}, lambda _: None, base=str(large)),
    ):
        pytest.fail("work was begun")


def test_every_command_makes_missing_parents_and_says_so(
    tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(large)]
    assert main(["sample", *model, "--prompt", "a", "--n", "1", "--steps", "1", "--out", "s/a.png"]) == 0
    assert "oubliette: made the folder s for a.png" in capsys.readouterr().err
    assert main(["erase", *model, *UCE, "--check", "off", "--out", "e/deep/x"]) == 0
    assert capsys.readouterr().err.count("made the folder e/deep for") == 1
    assert main(["world", "draw", "--n", "1", "--out", "w/a.png"]) == 0
    assert "made the folder w for a.png" in capsys.readouterr().err


def test_a_page_that_does_not_fit_leaves_the_saved_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oubliette.workflows import erase as job
    from oubliette.workflows.order import Job

    class Found:
        evaluation, reason, seconds, made = object(), "", 0.0, True

    (tmp_path / "model").mkdir()
    model = tiny.save(tiny.pipeline(), tmp_path / "model" / "it")

    def fail(outcome: job.Outcome) -> None:
        (outcome.out / job.REPORT).mkdir()
        raise UserError("disk full")

    monkeypatch.setattr("oubliette.workflows.check.check", lambda *_, **__: Found())
    monkeypatch.setattr(job, "_note", fail)
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate(
        {
            "model": str(model),
            "method": {"name": "uce", "prompts": "name"},
            "scope": "xattn-kv",
            "concepts": [{"name": "car", "anchor": "object"}],
        }
    )
    with pytest.raises(UserError, match="the model itself is saved in x"):
        job.run_job(recipe, Job(out="x", check="on"))
    assert (tmp_path / "x" / "model_index.json").is_file()
    assert not (tmp_path / "x" / "report").exists()
    assert json.loads((tmp_path / "x" / "oubliette.json").read_text())
