"""The runner of benchmarks on a toy one: stages, shards, subjects, what is done is not done again."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oubliette.bench.runner import BENCHMARKS, Benchmark, Shard, Stage, bench
from oubliette.core.errors import UserError

RUN: list[str] = []


@dataclass(frozen=True)
class Cell:
    key: str
    subject: str | None


def run_cell(plan: dict[str, Any], cell: Cell, out: Path) -> float:
    RUN.append(cell.key)
    (out / cell.key).write_text(str(plan["factor"] * len(cell.key)))
    return 0.0


def done(out: Path, cell: Cell) -> bool:
    return (out / cell.key).is_file()


@dataclass
class Found:
    values: dict[str, int]

    def markdown(self) -> str:
        return "\n".join(f"{key}: {value}" for key, value in self.values.items())

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)


class Toy:
    name, table = "toy", "toys"

    def read_plan(self, source: Any) -> dict[str, Any]:
        return {"factor": 2, "cells": ["a", "bb", "ccc", "dddd"], "source": source}

    def facts(self, plan: dict[str, Any]) -> dict[str, Any]:
        return {"base": "nano", "factor": plan["factor"]}

    def differs(self, plan: dict[str, Any], before: Mapping[str, Any]) -> str | None:
        return None if before["factor"] == plan["factor"] else "factor"

    def stages(self, plan: dict[str, Any], out: Path) -> Iterator[Stage]:
        yield Stage([Cell("first", None)], run_cell, done)
        # What an earlier stage left is there when a later one is asked for.
        several = int((out / "first").read_text()) // plan["factor"] == len("first")
        yield Stage([Cell(key, key) for key in plan["cells"] if several], run_cell, done)

    def subjects(self, plan: dict[str, Any]) -> list[str]:
        return list(plan["cells"])

    def subject_of(self, cell: Cell) -> str | None:
        return cell.subject

    def states(self, plan: dict[str, Any], out: Path) -> list[tuple[Cell, str]]:
        return [(Cell(key, key), "done" if (out / key).is_file() else "to do") for key in plan["cells"]]

    def benched(self, plan: dict[str, Any], out: Path) -> Found:
        return Found({key: int((out / key).read_text()) for key in plan["cells"] if (out / key).is_file()})


@pytest.fixture
def out(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("oubliette.backends.open_model", lambda name: Named())
    RUN.clear()
    return tmp_path / "out"


class Named:
    def fingerprint(self) -> str:
        return "0" * 64


def test_stages_run_in_order_and_what_is_done_is_not_run_again(out: Path) -> None:
    told: list[tuple[int, int]] = []
    found = bench(Toy(), out, progress=lambda count, of, note: told.append((count, of)))
    assert RUN == ["first", "a", "bb", "ccc", "dddd"]
    assert told == [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert found.values == {"a": 2, "bb": 4, "ccc": 6, "dddd": 8}
    assert (out / "toys.md").read_text() == found.markdown()
    assert json.loads((out / "toys.json").read_text()) == found.values
    (out / "bb").unlink()
    RUN.clear()
    bench(Toy(), out)
    assert RUN == ["bb"]
    RUN.clear()
    (out / "bb").unlink()
    assert set(bench(Toy(), out, run=False).values) == {"a", "ccc", "dddd"}
    assert RUN == []


def test_a_subject_has_its_own_cells_and_those_that_all_need(out: Path) -> None:
    bench(Toy(), out, subjects=["ccc", "a"])
    assert RUN == ["first", "a", "ccc"]
    with pytest.raises(UserError, match="the plan has no subject 'cc'; did you mean 'ccc'"):
        bench(Toy(), out, subjects=["cc"])


def test_shards_share_the_cells_of_each_stage_without_a_rest(out: Path) -> None:
    cells = list(range(11))
    shares = [Shard.parse(f"{index}/3").of(cells) for index in (1, 2, 3)]
    assert sorted(functools.reduce(operator.iadd, shares, [])) == cells
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    bench(Toy(), out, shard=Shard(1, 2))
    assert RUN == ["first", "a", "ccc"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "1/3/5", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected I/N with I from 1 to N"):
        Shard.parse(text)


def test_another_plans_folder_is_refused(out: Path) -> None:
    bench(Toy(), out)
    with pytest.raises(UserError, match="was begun with another factor"):
        bench(Toy(), out, {"factor": 3, "cells": ["a"]})


@pytest.mark.parametrize("name", BENCHMARKS.names())
def test_every_benchmark_that_ships_has_a_plan_and_a_name_for_each_cell(name: str, tmp_path: Path) -> None:
    benchmark: Benchmark[Any, Any] = BENCHMARKS.get(name)
    assert benchmark.name == name
    plan = benchmark.read_plan(name)
    states = benchmark.states(plan, tmp_path)
    assert {state for _, state in states} == {"to do"}
    keys = [cell.key for cell, _ in states]
    assert len(set(keys)) == len(keys) > 10
    facts = benchmark.facts(plan)
    assert benchmark.differs(plan, facts) is None
    assert facts["base"] == getattr(plan, "base", None)
    assert {benchmark.subject_of(cell) for cell, _ in states} - {None} == set(benchmark.subjects(plan))
