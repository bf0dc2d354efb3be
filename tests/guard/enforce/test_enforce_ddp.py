"""A mask in two processes on gloo: DistributedDataParallel and FSDP2, frozen before wrapping and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "launched_enforcement.py"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each process saw; one launch for all the tests."""
    folder = tmp_path_factory.mktemp("launched")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_enforcing_a_plain_module_loads_no_heavy_library(ranks):
    assert ranks[0]["heavy"] == []


@pytest.mark.parametrize("when", ["before prepare", "after prepare", "before sharding", "after sharding"])
def test_frozen_bits_stay_and_the_rest_moves(ranks, when):
    for facts in ranks:
        assert facts[when]["frozen"]
        assert facts[when]["moved"]


def test_freezing_after_prepare_ends_in_the_weights_of_freezing_before(ranks):
    for facts in ranks:
        assert facts["before prepare"]["wrapped"] == "DistributedDataParallel"
        assert facts["same"]  # gradients are clipped there: frozen ones count for nothing in either
        assert facts["before prepare"]["dropped"] == {}
        assert facts["after prepare"]["dropped"] == {"0.weight": 4, "0.bias": 4}
        assert facts["after prepare"]["flags"] == [True] * 4


def test_sharding_within_the_block_loses_neither_tensors_nor_flags(ranks):
    for facts in ranks:
        for when in ("before sharding", "after sharding"):
            assert facts[when]["flags"] == [True] * 4
            assert facts[when]["dropped"] == {}


def test_a_process_that_moves_its_own_copy_is_told(ranks):
    assert [bool(facts["leak"]) for facts in ranks] == [False, True]
    assert "0.bias (changed)" in ranks[1]["leak"]


def test_a_shard_that_moved_is_told_to_every_process_and_can_be_put_back(ranks):
    for facts in ranks:
        assert facts["shard leak"].startswith("MaskViolated")
        assert "0.weight (changed)" in facts["shard leak"]
        assert facts["restoring"] == ""
        assert facts["restored"] == {"0.weight": 1}
        assert facts["back"]
