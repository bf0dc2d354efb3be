import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from oubliette.core.errors import UserError
from oubliette.train.loop import Loop
from oubliette.train.processes import Processes

from .launched import SMOOTHERS, train


def launch(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine's CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(Path(__file__).parent / "launched.py"), str(folder), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


@pytest.mark.parametrize("more", [(), ("adapters",)])
def test_two_processes_end_where_one_does(tmp_path, more):
    for name in SMOOTHERS:
        (tmp_path / "two" / name).mkdir(parents=True)
    done = launch(tmp_path / "two", *more)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in SMOOTHERS:
        same(tmp_path / "two" / name, train(tmp_path / "one" / name, name, *map(bool, more)))


def same(two: Path, one: Loop) -> None:
    """What two processes wrote is what the one ended in."""
    first, second = (load_file(two / f"rank{rank}.safetensors") for rank in (0, 1))
    for name, tensor in one.model.tensors().items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], tensor, atol=1e-6)
    records = [json.loads(line) for line in (two / "log.jsonl").read_text().splitlines()]
    assert len(records) == len(one.records) == 6
    for record, expected in zip(records, one.records, strict=True):
        for role, loss in expected["loss"].items():
            assert abs(record["loss"][role] - loss) < 1e-5
    assert (two / "checkpoint" / "checkpoint.safetensors").is_file()


def test_micro_batches_that_cannot_be_dealt_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Processes, "count", 3, raising=False)
    monkeypatch.setattr(Processes, "__init__", lambda self, device: None)
    with pytest.raises(UserError, match=r"train\.accumulation is 4 with 3 processes"):
        train(tmp_path)


def test_alone_nothing_is_copied():
    alone = Processes(torch.device("cpu"))
    assert (alone.count, alone.index, alone.is_main) == (1, 0, True)
    tensors = [torch.ones(2)]
    assert alone.mean(tensors) is tensors
    alone.wait()
