"""The policy that docs/streams.md writes, as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tiny_language
from oubliette.erase import POLICIES
from oubliette.workflows.continual.run import run_stream
from oubliette.workflows.order import Job, Order

PAGE = Path(__file__).parents[3] / "docs" / "streams.md"


def test_it_decides_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    made: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), made)
    monkeypatch.setitem(POLICIES._targets, "gauge", made["Gauge"])
    tiny_language.save(tmp_path / "base", "llama")
    rows = [dict(zip(("question", "answer"), row, strict=True)) for row in tiny_language.FORGET * 2]
    lines = [json.dumps({"id": f"r{number}", **row}) + "\n" for number, row in enumerate(rows)]
    (tmp_path / "r.jsonl").write_text("".join(lines))
    over = [
        "train.batch=1",
        "train.learning_rate=0.01",
        "train.warm_up=0",
        "policy.steps=6",
        "policy.budget=13",
    ]

    def run(out: str, *, resume: bool = False) -> Any:
        job = Job(tmp_path / out, resume=resume, show_progress=False)
        order = Order(method="npo", policy="gauge", overrides=over)
        return run_stream(tmp_path / "r.jsonl", order, job, model=tmp_path / "base", checkpoints=[4])

    whole = run("whole")
    left = [stage.record["decision"]["left"] for stage in whole.stages]
    assert left[0] == 1
    assert left[2] < 1  # asked again, it is no longer as likely
    assert whole.stages[0].record["method"] == "npo"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        decide = made["Gauge"].decide
        patch.setattr(
            made["Gauge"],
            "decide",
            lambda self, model, asked: stop(asked) if asked.number == 3 else decide(self, model, asked),
        )
        with pytest.raises(KeyboardInterrupt):
            run("out")
    parted = run("out", resume=True)
    assert [stage.record["decision"] for stage in parted.stages] == [
        stage.record["decision"] for stage in whole.stages
    ]
    assert [stage.record["method"] for stage in parted.stages] == [s.record["method"] for s in whole.stages]
