"""The benchmark of streams from plan to tables, on a tiny model that learns a few records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from oubliette.bench.runner import Shard, bench
from oubliette.bench.streams.bench import STREAMS
from oubliette.bench.streams.plan import Plan
from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.world import embedded

NARROW = [
    "train.steps=1",
    "train.batch=1",
    "train.accumulation=1",
    "train.warm_up=0",
    "train.learning_rate=0.01",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two narrow blocks with the embedded models' tokenizer."""
    from transformers import AutoTokenizer

    from oubliette.workflows.world.training.language import blank

    source = embedded.path("nano-lm")
    assert source is not None
    folder = tmp_path_factory.mktemp("base") / "tiny"
    with torch.random.fork_rng():
        model = blank(width=48, blocks=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(source)).save_pretrained(folder)
    return folder


def plan(base: Path, **more: Any) -> Plan:
    facts: dict[str, Any] = {
        "base": str(base),
        "forget": 3,
        "retain": 2,
        "orders": [7, 8],
        "checkpoints": [1, 3],
        "tokens": 3,
        "learn": {"epochs": 6, "batch": 5, "learning_rate": 0.01, "warm_up": 1, "least": 0.05},
        "subjects": [
            {"name": "GA", "method": "graddiff", "retain": False, "set": NARROW},
            {
                "name": "FIT",
                "method": "fit",
                "copies": 2,
                "attacked": False,
                "set": ["scope.top=1", "train.steps=1", "policy.future=false"],
            },
        ],
        "relearn": {"at": [1, 2], "batch": 2, "learning_rate": 1e-3},
        "bits": [4],
        "claims": [{"says": "GA loses", "measure": "R.U.", "subject": "GA", "below": 1}],
    }
    return validated(Plan, {**facts, **more}, "plan")


@pytest.mark.slow
def test_it_runs_whole_or_in_shards_resumes_and_says_what_it_found(base: Path, tmp_path: Path) -> None:
    ticks: list[str] = []
    done = bench(STREAMS, tmp_path / "out", plan(base), progress=lambda _, __, note: ticks.append(note))
    assert len(ticks) == 2 + 2 * 2
    assert not done.missing
    assert {len(cells) for cells in done.found.values()} == {2}
    states = {outcome.subject: set(outcome.states) for outcome in done.outcomes}
    assert states["FIT"] == {"after 1", "after 3"}
    assert states["GA"] == {"after 1", "after 3", "4 bits", "relearned 1", "relearned 2"}
    ran = {outcome.subject: sum(outcome.facts["methods"].values()) for outcome in done.outcomes}
    assert ran == {"GA": 3, "FIT": 5}
    for outcome in done.outcomes:
        assert len(outcome.asked) == 3
        assert len(outcome.states["after 1"]) == 5
    assert len(done.outcomes[0].states["4 bits"]) == 1  # every second of three
    text = (tmp_path / "out" / "streams.md").read_text("utf-8")
    assert "GA loses" in text
    assert (tmp_path / "out" / "streams.png").is_file()
    assert {folder.name for folder in (tmp_path / "out" / "models").iterdir()} == {"learned", "retained"}
    facts = json.loads((tmp_path / "out" / "streams.json").read_text("utf-8"))
    assert set(facts["curves"]) == {"GA", "FIT"}

    again: list[str] = []
    bench(STREAMS, tmp_path / "out", plan(base), progress=lambda _, __, note: again.append(note))
    assert not again
    with pytest.raises(UserError, match="begun with another learn"):
        bench(STREAMS, tmp_path / "out", plan(base, learn={"epochs": 2, "least": 0.05}))

    (second,) = (cell for cell in plan(base).cells() if cell.key == "fit-records-1")
    shard = bench(STREAMS, tmp_path / "shard", plan(base), shard=Shard(4, 4))
    assert [(one.subject, one.seed) for one in shard.outcomes] == [(second.subject.name, second.seed)]
    whole = next(one for one in done.outcomes if (one.subject, one.seed) == ("FIT", 1))
    assert shard.outcomes[0].states == whole.states  # the same bits, whoever ran it


def test_records_that_are_not_known_stop_the_run(base: Path, tmp_path: Path) -> None:
    lazy = {"epochs": 1, "batch": 5, "learning_rate": 1e-6, "warm_up": 0}
    with pytest.raises(UserError, match=r"model 'learned' has .* of the forget half's tokens right after 1"):
        bench(STREAMS, tmp_path / "out", plan(base, learn=lazy))
