"""A benchmark from its plan to a folder: stages of cells, each cell kept when done, and then the tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from oubliette.bench.folder import claim
from oubliette.bench.pool import in_processes
from oubliette.bench.shipped import plan_content
from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import write_json
from oubliette.core.registry import Registry
from oubliette.core.writing import write_bytes

__all__ = ["BENCHMARKS", "Benched", "Benchmark", "Keyed", "Shard", "Stage", "bench", "benchmark_for"]

P = TypeVar("P")  # a plan
B_co = TypeVar("B_co", bound="Benched", covariant=True)

#: Told after each cell: how many are done, of how many, and which.
Progress = Callable[[int, int, str], None]


class Keyed(Protocol):
    """A cell: something with a name for its files."""

    @property
    def key(self) -> str:
        """Its name, one of its kind in a plan."""
        ...


class Benched(Protocol):
    """What a benchmark came to."""

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        ...


@dataclass(frozen=True)
class Stage:
    """Cells that need nothing of one another: what runs one (`run(plan, cell, out)`, its seconds back; a
    module's function, so that other processes can be given it), and whether `out` holds one. What later
    stages read of every cell is `shared`: each shard runs all of them.
    """

    cells: Sequence[Any]
    run: Callable[[Any, Any, Path], float]
    done: Callable[[Path, Any], bool]
    shared: bool = False


class Benchmark(Protocol[P, B_co]):
    """What one benchmark does; the runner does the rest."""

    name: str
    """The command's, and that of the shipped plan."""
    table: str
    """What its tables are called: "audit" for audit.md and audit.json."""

    def read_plan(self, source: Any) -> P:
        """A shipped plan by name, or one in a YAML file; UserError for what is wrong in it."""
        ...

    def facts(self, plan: P) -> dict[str, Any]:
        """What a folder keeps of its plan: with `base`, the model whose weights must stay what they were, or
        None.
        """
        ...

    def differs(self, plan: P, before: Mapping[str, Any]) -> str | None:
        """What of the plan is not as a folder has it (`before`): its cells are another's then; else None."""
        ...

    def stages(self, plan: P, out: Path) -> Iterator[Stage]:
        """What is to be run, in order; a later stage may depend on what an earlier one left in `out`."""
        ...

    def subjects(self, plan: P) -> list[str]:
        """The names that `--subject` may take."""
        ...

    def subject_of(self, cell: Any) -> str | None:
        """Whose cell it is; None for one that all need."""
        ...

    def states(self, plan: P, out: Path) -> list[tuple[Keyed, str]]:
        """Every cell with what has become of it: "done", "to do"."""
        ...

    def benched(self, plan: P, out: Path) -> B_co:
        """The figures of the cells that are done; pictures beside the tables are drawn now."""
        ...


@dataclass(frozen=True)
class Shard:
    """A share of the cells: every `count`-th, from the `index`-th (from 1) on."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "2/3"; UserError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        made = cls(int(found[1]), int(found[2])) if found else None
        if made is None or not 1 <= made.index <= made.count:
            raise UserError(f"--shard: expected I/N with I from 1 to N, as in 1/3; found {text!r}")
        return made

    def of(self, cells: Sequence[Any]) -> list[Any]:
        """Its part of the cells."""
        return list(cells[self.index - 1 :: self.count])


BENCHMARKS: Registry[Benchmark[Any, Any]] = Registry(
    "benchmark",
    {
        "erasure": "oubliette.bench.erasure.bench:ERASURE",
        "audit": "oubliette.bench.audit.bench:AUDIT",
        "guard": "oubliette.bench.guard.bench:GUARD",
        "unlearning": "oubliette.bench.unlearning.bench:UNLEARNING",
        "smoothing": "oubliette.bench.unlearning.bench:SMOOTHING",
        "refresh": "oubliette.bench.refresh.bench:REFRESH",
        "blur": "oubliette.bench.blur.bench:BLUR",
        "streams": "oubliette.bench.streams.bench:STREAMS",
    },
)
"""What `oubliette bench` runs, by name."""


def benchmark_for(command: str, plan: Path | str) -> Benchmark[Any, Any]:
    """The benchmark of a command's name; of a command that has several, the one that its plan names.

    UserError for a plan that cannot be read, and for one that names none.
    """
    if command in BENCHMARKS:
        return BENCHMARKS.get(command)
    content, where = plan_content(plan)
    name = content.get("benchmark")
    if not isinstance(name, str):
        raise UserError(
            f"{where}: 'benchmark' is missing, which says what the plan is of; as in benchmark: refresh"
        )
    return BENCHMARKS.get(name)


def bench(
    benchmark: Benchmark[P, B_co],
    out: Path | str,
    plan: P | Path | str | None = None,
    *,
    jobs: int = 1,
    subjects: Sequence[str] = (),
    shard: Shard | None = None,
    run: bool = True,
    progress: Progress | None = None,
) -> B_co:
    """Run the plan's cells that `out` lacks, then write the tables as Markdown and JSON; what they hold.

    `jobs` processes share the cells, each with its share of the cores. `subjects` are the names of those to
    run, all where it is empty; a `shard` runs its share of each stage (the `cells` folders of several are
    put together by copying). `run` false makes the tables of what is there. UserError for an unknown subject
    and for a folder that holds another benchmark.
    """
    out = Path(out)
    if plan is None or isinstance(plan, str | Path):
        plan = benchmark.read_plan(plan or benchmark.name)
    if run:
        _run(benchmark, plan, out, jobs, subjects, shard or Shard(), progress)
    benched = benchmark.benched(plan, out)
    write_bytes(out / f"{benchmark.table}.md", benched.markdown().encode())
    write_json(out / f"{benchmark.table}.json", benched.to_dict())
    return benched


def _run(
    benchmark: Benchmark[P, B_co],
    plan: P,
    out: Path,
    jobs: int,
    subjects: Sequence[str],
    shard: Shard,
    progress: Progress | None,
) -> None:
    known = benchmark.subjects(plan)
    for name in subjects:
        if name not in known:
            raise UserError(f"the plan has no subject '{name}'; {suggest(name, known)}")
    wanted = {None, *(subjects or known)}
    facts = benchmark.facts(plan)
    with claim(out, facts, lambda before: benchmark.differs(plan, before), facts["base"]):
        for stage in benchmark.stages(plan, out):
            cells = [cell for cell in stage.cells if benchmark.subject_of(cell) in wanted]
            cells = cells if stage.shared else shard.of(cells)
            left = [cell for cell in cells if not stage.done(out, cell)]
            count = len(cells) - len(left)
            for cell, seconds in in_processes(stage.run, plan, left, out, jobs):
                count += 1
                if progress is not None:
                    progress(count, len(cells), f"{cell.key}, {seconds:.0f} s")
