"""Killed for good at random moments, the documented command goes on each time, to the same bits."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_world
from forked import Fork, Forks
from oubliette.backends import open_model

SHORT = ["--set", "data.pictures=40", "--set", "data.prompts=4", "--set", "data.picture_steps=2"]
ERASE = ["erase", "--model", "nano", "--concept", "car", "--method", "ablation", "--steps", "12", *SHORT]
ERASE += ["--set", "train.batch=2", "--check", "off"]
SUITE = """
name: tiny
seeds: 1
points: 2
pictures: 2
kept: 1
steps: 2
rows:
- {row: evaluation, n: 2, each: 1, near_n: 1}
- {row: relearn, attack: F2, budget: {steps: 4}, nano: {steps: 4}}
- {row: prompts, name: paraphrase, attack: paraphrase, cases: 2}
"""
STREAM = "- {concept: car, method: ablation, steps: 4}\n- {concept: engraving, method: uce}\n"
USER = ["--user", "steps=12", "--user", "batch=2", "--pictures", "4"]
APPLY = ["guard", "apply", "--mask", "mask", "--model", "nano", "--data", "bicycle"]
SIDES = ["--illegal", "Bram Ostrow", "--innocent", "bicycle"]


def weights(out: Path) -> str:
    return str(open_model(out).fingerprint())


def figures(out: Path) -> Any:
    """The evaluation without its times."""
    found = json.loads((out / "evaluation.json").read_text())
    return {key: value for key, value in timeless(found).items() if key not in ("record", "times")}


def audited(out: Path) -> Any:
    found = json.loads((out / "audit.json").read_text())
    return timeless({key: value for key, value in found.items() if key not in ("record", "times")})


def timeless(found: Any) -> Any:
    if isinstance(found, dict):
        return {
            key: timeless(value) for key, value in found.items() if "second" not in key and key != "created"
        }
    return [timeless(one) for one in found] if isinstance(found, list) else found


def mask(out: Path) -> bytes:
    return (out / "scores.safetensors").read_bytes()


def cells(out: Path) -> Any:
    return {
        path.relative_to(out).as_posix(): timeless(json.loads(path.read_text()))
        for path in sorted(out.rglob("evaluation.json"))
    }


Run = Callable[[list[str], Path], Fork]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, forks: Forks) -> Run:
    """Runs the command line on the stand-ins for the embedded models."""
    stand_in = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        tiny_world.install(stand_in, tiny_folder, patch)

    def start(arguments: list[str], where: Path) -> Fork:
        cache = {"OUBLIETTE_CACHE": str(where / f"cache-{arguments[-1]}")}
        return forks.start(arguments, where, weights=stand_in, env=cache)

    return start


def check(
    run: Run,
    where: Path,
    command: list[str],
    found: Callable[[Path], Any],
    moments: int,
    *,
    resume: bool = True,
) -> None:
    """Run a command whole, and killed at `moments` random moments, each time with --resume."""
    arguments = [*command, "--resume"] if resume else command
    begun = time.monotonic()
    whole = run([*arguments, "--out", "whole"], where)
    assert whole.wait() == 0, whole.said
    lasts, rng, killed = time.monotonic() - begun, random.Random(len(command)), 0
    while True:
        process = run([*arguments, "--out", "parted"], where)
        try:
            process.wait(timeout=rng.uniform(0.1, 0.95) * lasts if killed < moments else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            if resume and (where / "parted").exists() and not list(where.glob("parted.unfinished*")):
                break  # it was done, and about to end
            continue
        assert process.returncode == 0, process.said
        if killed:
            break
        shutil.rmtree(where / "parted")  # this time all went faster than before
        lasts /= 2
    assert killed
    assert found(where / "parted") == found(where / "whole")
    assert not list(where.glob("parted.unfinished*"))


def prepared(run: Run, where: Path, command: list[str]) -> None:
    process = run(command, where)
    assert process.wait() == 0, process.said


def test_an_erasure_killed_twice(run: Run, tmp_path: Path) -> None:
    check(run, tmp_path, ERASE, weights, 2)


COMMANDS: dict[str, tuple[list[str], Callable[[Path], Any]]] = {
    "erase": (ERASE, weights),
    "a closed form": (["erase", "--model", "nano", "--concept", "car", "--method", "uce"], weights),
    "stream": (["erase", "--model", "nano", "--stream", "stream.yaml", *SHORT, "--check", "off"], weights),
    "eval": (["eval", "--model", "erased", "--n", "8", "--steps", "2"], figures),
    "audit": (["audit", "--model", "erased", "--suite", "suite.yaml"], audited),
    "guard learn": (["guard", "learn", "--model", "nano", *SIDES, *USER, "--set", "batches=1"], mask),
    "guard apply": (
        [*APPLY, "--set", "steps=20", "--set", "batch=2", "--set", "pictures=3"],
        weights,
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_ten_times(name: str, run: Run, tmp_path: Path) -> None:
    command, found = COMMANDS[name]
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "stream.yaml").write_text(STREAM)
    if "erased" in command:
        erase = ["erase", "--model", "nano", "--concept", "car", "--method", "uce", "--check", "off"]
        prepared(run, tmp_path, [*erase, "--out", "erased"])
    if "mask" in command:
        prepared(run, tmp_path, [*COMMANDS["guard learn"][0], "--no-stability", "--out", "mask"])
    check(run, tmp_path, command, found, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_bench_killed_ten_times(run: Run, tmp_path: Path) -> None:
    plan = "name: t\nbase: nano\nconcepts: [{name: car}]\nsubjects:\n- {name: UCE, method: uce}\n"
    plan += "- {name: none, control: none}\nn: 4\neach: 1\nsampling_steps: 2\n"
    (tmp_path / "plan.yaml").write_text(plan)
    check(run, tmp_path, ["bench", "erasure", "--plan", "plan.yaml"], cells, 10, resume=False)
