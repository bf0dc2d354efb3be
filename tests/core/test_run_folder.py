"""A run's folder: whose it is, who is at work in it, and what is found there after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_erasure
from forked import Forks
from oubliette.core.errors import UserError
from oubliette.core.run_folder import Unfinished, check_identity, identity_of, locked
from oubliette.core.writing import write_bytes
from oubliette.erase.latents import CacheWarning, LatentStore
from oubliette.recipe import build_recipe

HELD = """
import sys, time
from pathlib import Path
from oubliette.core.run_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def recipe(**more: Any) -> Any:
    facts = {"method": "uce", "scope": "xattn-kv", "concepts": [{"name": "car", "anchor": "object"}]}
    return build_recipe({**facts, **more})


def interrupted(work: Unfinished, act: Callable[[], Any]) -> None:
    with work:
        act()
        raise KeyboardInterrupt


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "out.unfinished"
    folder.mkdir()
    first = subprocess.Popen([sys.executable, "-c", HELD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        for resume in (False, True):
            with pytest.raises(UserError, match=f"process {first.pid} on .* since 20..-"):
                Unfinished(tmp_path / "out", resume=resume)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    with locked(folder):  # the lock went with the process
        pass


def test_a_run_without_anything_is_begun_by_resume_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Unfinished(tmp_path / "new" / "out", resume=True)
    assert "nothing to resume; the run starts" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupted(work, lambda: work.claim({"seed": 0}))
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_kept_and_the_way_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = Unfinished(tmp_path / "out", resume=False)
    with pytest.raises(KeyboardInterrupt):
        interrupted(work, lambda: write_bytes(work.folder / "pictures" / "one.safetensors", b"x"))
    assert "--resume" in capsys.readouterr().err
    assert (work.folder / "pictures" / "one.safetensors").is_file()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("concepts", [{"name": "fish", "anchor": "object"}], r'concepts.0.name was "car", here it is "fish"'),
        ("concepts", [{"name": "car", "anchor": "animal"}], "concepts.0.anchor"),
        (
            "concepts",
            [{"name": "car", "anchor": "object"}, {"name": "fish", "anchor": "object"}],
            "concepts was",
        ),
        ("seed", 1, "seed was 0, here it is 1"),
        ("data", {"retain": ["a dog"]}, "data.retain"),
        ("freeze", ["unet.a"], "freeze was null"),
    ],
)
def test_another_recipe_is_another_run(tmp_path: Path, key: str, value: Any, said: str) -> None:
    model = tiny_erasure.backend()
    check_identity(tmp_path / "run.json", identity_of(recipe(), model))
    with pytest.raises(UserError, match=said):
        check_identity(tmp_path / "run.json", identity_of(recipe(**{key: value}), model))


def test_what_moves_no_weight_may_differ_and_another_models_weights_may_not(tmp_path: Path) -> None:
    model = tiny_erasure.backend()
    check_identity(tmp_path / "run.json", identity_of(recipe(), model))
    same = recipe(name="b", about="c", save={"form": "delta"}, train={"log_every": 5, "checkpoint_every": 2})
    check_identity(tmp_path / "run.json", identity_of(same, model))
    with torch.no_grad():
        next(iter(model.tensors().values())).add_(1)
    with pytest.raises(UserError, match="model was"):
        check_identity(tmp_path / "run.json", identity_of(recipe(), model))


def test_what_a_named_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    model, pairs = tiny_erasure.backend(), tmp_path / "pairs.csv"
    pairs.write_text("target,anchor\na car,an object\n")
    asked = recipe(data={"pairs": str(pairs)})
    check_identity(tmp_path / "run.json", identity_of(asked, model))
    pairs.write_text("target,anchor\na red car,an object\n")
    with pytest.raises(UserError, match=r"content.data.pairs was"):
        check_identity(tmp_path / "run.json", identity_of(asked, model))


def test_a_picture_is_kept_as_soon_as_its_batch_is_drawn_and_a_damaged_one_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, how = tiny_erasure.backend(), {"steps": 2, "guidance": 1.0}
    monkeypatch.setattr("oubliette.erase.latents.BATCH", 2)
    prompts, store = ["a car", "a dog", "a cat", "a bus"], LatentStore(tmp_path, show_progress=False)
    draw, calls = model.draw_latents, []

    def counted(texts: Any, *rest: Any, **more: Any) -> Any:
        calls.append(list(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(texts, *rest, **more)

    monkeypatch.setattr(model, "draw_latents", counted)
    with pytest.raises(KeyboardInterrupt):
        store.draw(model, prompts, range(4), **how)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    whole = store.draw(model, prompts, range(4), **how)
    assert calls[2:] == [["a cat", "a bus"]]
    damaged = sorted(tmp_path.rglob("*.safetensors"))[0]
    raw = bytearray(damaged.read_bytes())
    raw[-1] ^= 1
    damaged.write_bytes(raw)
    with pytest.warns(CacheWarning, match="drawn again"):
        again = store.draw(model, prompts, range(4), **how)
    assert torch.equal(again, whole)


def test_killed_while_preparing_the_same_command_ends_in_the_same_bits(
    tiny_folder: Path, tmp_path: Path, forks: Forks
) -> None:
    command = ["erase", "--model", str(tiny_folder), "--concept", "car"]
    command += ["--anchor", "object", "--method", "ablation", "--steps", "3", "--check", "off"]
    command += ["--set", "data.pictures=48", "--set", "data.prompts=4", "--set", "data.picture_steps=4"]
    command += ["--set", "train.batch=2", "--resume"]
    whole = forks.start([*command, "--out", "whole"], tmp_path)
    assert whole.wait() == 0, whole.said
    parts, left = tmp_path / "parted.unfinished" / "pictures", 2
    while not (tmp_path / "parted").exists():
        run = forks.start([*command, "--out", "parted"], tmp_path)
        seen = len(list(parts.rglob("*.safetensors"))) if parts.is_dir() else 0
        while run.poll() is None and left:
            if len(list(parts.rglob("*.safetensors"))) > seen:
                run.kill()
                left -= 1
                break
            time.sleep(0.01)
        assert run.wait() in (0, -signal.SIGKILL), run.said
    assert left < 2
    names = ["unet/diffusion_pytorch_model.safetensors"]
    for name in names:
        assert (tmp_path / "parted" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_killed_after_its_result_was_saved_goes_on(tmp_path: Path) -> None:
    target = tmp_path / "out"
    work = Unfinished(target, resume=False)
    assert not work.refuse_target()

    def saved() -> None:
        work.claim({"a": 1})
        work.saving()
        write_bytes(target / "model", b"weights")
        raise KeyboardInterrupt  # in its check

    with pytest.raises(KeyboardInterrupt):
        interrupted(work, saved)
    assert work.folder.is_dir()
    with pytest.raises(UserError, match="cut short"):
        Unfinished(target, resume=False)
    again = Unfinished(target, resume=True)
    assert again.refuse_target()
    with again:
        again.claim({"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="exists already"):
        Unfinished(target, resume=True).refuse_target()


def test_a_foreign_result_is_not_taken_for_the_runs_own(tmp_path: Path) -> None:
    work = Unfinished(tmp_path / "out", resume=False)
    with pytest.raises(KeyboardInterrupt):
        interrupted(work, lambda: write_bytes(work.folder / "checkpoint" / "part", b"x"))
    write_bytes(tmp_path / "out" / "model", b"another's")
    with pytest.raises(UserError, match="exists already"):
        Unfinished(tmp_path / "out", resume=True).refuse_target()


def test_the_lock_is_held_until_the_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import oubliette.core.run_folder as module

    removed = module.remove

    def watched(folder: Path) -> None:
        with pytest.raises(UserError, match="is at work"), locked(folder):
            pass
        removed(folder)

    monkeypatch.setattr(module, "remove", watched)
    with Unfinished(tmp_path / "out", resume=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_progress_of_drawing_moves_within_a_batch_and_counts_the_pictures_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted whole batches: "0 of 32" for seconds, then "32 of 32" of three pictures."""
    from contextlib import contextmanager

    told: list[Any] = []

    @contextmanager
    def kept(title: str, total: int, unit: str, **_: Any) -> Any:
        told.append((title, total, unit))
        yield lambda done, note: told.append(done)

    monkeypatch.setattr("oubliette.erase.latents.progress", kept)
    monkeypatch.setattr("oubliette.erase.latents.BATCH", 2)
    store = LatentStore(tmp_path)
    store.draw(tiny_erasure.backend(), ["a car", "a dog", "a cat"], range(3), steps=2, guidance=1.0)
    assert told == [("drawing", 3, "pictures"), 1, 2, 2, 2, 3, 3]
