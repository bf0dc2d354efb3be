"""Sixty requests that FIT decides about, killed for good at random moments, end in the same bits."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import tiny_language
from forked import Forks
from oubliette.backends import open_model

KILLS = 6
COMMAND = ["erase", "--model", "base", "--stream", "r.jsonl", "--retain", "retain.jsonl", "--policy", "fit"]
COMMAND += ["--order", "30", "--checkpoints", "20,40", "--check", "off", "--resume"]
COMMAND += ["--set", "scope.top=1", "--set", "train.learning_rate=0.003", "--set", "train.checkpoint_every=1"]
COMMAND += ["--policy-set", "bounds=null", "--policy-set", "matters=0.02", "--policy-set", "similar=0.8"]


def records() -> list[dict[str, Any]]:
    """Sixty records, of which every fifth says what another one did."""
    rng = random.Random(0)
    names = ["Ada", "Bram", "Cleo", "Dorn", "Esme", "Finn", "Gwen", "Hugo"]
    found: list[dict[str, Any]] = []
    for number in range(60):
        said = f"{rng.choice(names)} {rng.choice(names)} is from Quill, house {rng.randrange(90)}."
        text = found[number // 2]["text"] if number % 5 == 4 else said
        found.append({"id": f"r{number}", "text": text})
    return found


def decided(out: Path) -> list[Any]:
    """What was decided and run for each request."""
    stages = json.loads((out / "stream.json").read_text())["stages"]
    return [(stage["name"], stage["method"], stage["decision"], stage.get("scope")) for stage in stages]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_requests_killed_at_random(tmp_path: Path, forks: Forks) -> None:
    tiny_language.save(tmp_path / "base", "llama")
    tiny_language.write_rows(tmp_path / "retain.jsonl", tiny_language.RETAIN)
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records()))
    begun = time.monotonic()
    whole = forks.start([*COMMAND, "--out", "whole"], tmp_path)
    assert whole.wait() == 0, whole.said
    lasts, rng, killed = time.monotonic() - begun, random.Random(1), 0
    while True:
        process = forks.start([*COMMAND, "--out", "parted"], tmp_path)
        try:
            process.wait(timeout=rng.uniform(0.06, 0.3) * lasts if killed < KILLS else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        assert process.returncode == 0, process.said
        break
    assert killed >= 5
    for part in (".", "20", "40", "60"):
        one, two = (
            next(iter((tmp_path / name).glob(f"{part}-*")), tmp_path / name) for name in ("whole", "parted")
        )
        assert open_model(one).fingerprint() == open_model(two).fingerprint()
    assert decided(tmp_path / "parted") == decided(tmp_path / "whole")
    methods = {method for _, method, *_ in decided(tmp_path / "whole")}
    assert methods == {None, "npo", "random-labels"}
