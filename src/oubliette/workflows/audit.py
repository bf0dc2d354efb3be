"""An audit from names to a folder: rows one by one, each kept when done, then verdict and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.audit.attack_cache import RowOutput, read_output, write_output
from oubliette.audit.context import AuditContext
from oubliette.audit.dry import Planned, plan, units_of
from oubliette.audit.novel_reference import novel_facts
from oubliette.audit.result import GOLD, JSON_NAME, MODEL, Audit, Subject
from oubliette.audit.rows import run_row
from oubliette.audit.suite import Suite
from oubliette.audit.verdict import rule
from oubliette.core.manifest import atomic_folder, record, refuse_existing
from oubliette.core.progress import progress
from oubliette.core.run_folder import Unfinished, content_hash
from oubliette.core.writing import write_bytes, writing
from oubliette.data.concept import Concept
from oubliette.eval.result import JudgeFacts
from oubliette.workflows.audit_setup import Setting, set_up
from oubliette.world.world import world_of

__all__ = ["Audited", "audit", "estimate", "run_rows"]

PAGE = "index.html"
_ROWS = "rows"


@dataclass(frozen=True)
class Audited:
    """What an audit found, the folder it lies in, and its page."""

    audit: Audit
    out: Path
    page: Path

    @property
    def exit_code(self) -> int:
        """0 erased, or suppressed on prompts; 1 not erased, hidden or destroyed; 3 could not tell."""
        return self.audit.exit_code


def audit(
    *named: Any,
    out: Path | str,
    suite: Suite | Path | str | None = None,
    resume: bool = False,
    command: str | None = None,
    show_progress: bool = True,
    **more: Any,
) -> Audited:
    """Audit one concept of a model and write audit.json, samples.jsonl, found prompts and the page to `out`.

    `named` and `more` are the fields of a `Request` (model, base, concept, anchor; gold, mask, data, ...).
    `suite` is by default "quick", or "answers" for a model that answers. While it runs, finished rows lie in
    `OUT.unfinished` beside `out`; `resume` goes on from there, to the same audit.json apart from times.
    Samples of base and gold, and what attacks on gold gave, are kept in the cache for later audits. Every
    model's weights are as before at the end. Raises UserError for what cannot be audited; nothing is then
    written.
    """
    target = Path(out)
    refuse_existing(target)
    unfinished = Unfinished(target, resume=resume, worth=lambda folder: any((folder / _ROWS).glob("*.json")))
    work = unfinished.folder
    setting = set_up(*named, suite=suite, **more)
    novel_facts(setting.bench)  # refuses a concept that the model knows, before any row is run
    facts = _facts(setting.bench)
    with unfinished:
        unfinished.claim(facts)
        outputs = run_rows(setting.bench, work, show_progress=show_progress)
        made = conclude(setting, outputs)
        _write(made, outputs, setting, target, command)
    return Audited(made, target, target / PAGE)


def estimate(*named: Any, suite: Suite | Path | str | None = None, **more: Any) -> Planned:
    """What an audit will cost, timed on a few short steps; the arguments are those of `audit`, less `out`."""
    return plan(set_up(*named, suite=suite, **more).bench)


def run_rows(bench: AuditContext, work: Path | None, *, show_progress: bool = True) -> list[RowOutput]:
    """Every row of the suite, one JSON file a row in `work` when it is done; what lies there is not run
    again.
    """
    suite = bench.suite
    described = [bench.driver.describe(spec) for spec in suite.rows]  # all refusals come before any work
    if work is not None:
        with writing(work):
            (work / _ROWS).mkdir(parents=True, exist_ok=True)
    outputs = []
    units = [units_of(spec, made, bench) for spec, made in zip(suite.rows, described, strict=True)]
    with progress("audit", max(1, sum(units)), "forward passes", enabled=show_progress) as tick:
        done = 0
        for number, (key, spec) in enumerate(zip(suite.ids(), suite.rows, strict=True)):
            path = None if work is None else work / _ROWS / f"{key}.json"
            output = None if path is None else read_output(path)
            if output is None:
                title = described[number].title

                def tell(
                    note: str, share: float, title: str = title, at: int = done, of: int = units[number]
                ) -> None:
                    tick(at + round(share * of), f"{title}: {note}")

                bench.tell = tell
                output = run_row(key, spec, bench)
                if path is not None:
                    write_output(path, output)
            done += units[number]
            tick(done, output.row.title)
            outputs.append(output)
    return outputs


def conclude(setting: Setting, outputs: Sequence[RowOutput]) -> Audit:
    """The audit that finished rows come to."""
    bench = setting.bench
    rows = [output.row for output in outputs]
    notes = [*setting.notes, *(note for output in outputs for note in output.notes)]
    skipped = getattr(bench.driver, "skipped", {})
    notes += [f"picture {where} was skipped: {reason}" for where, reason in sorted(skipped.items())]
    times = {output.row.id: output.seconds for output in outputs}
    return Audit(
        model=Subject(setting.sources[MODEL], bench.model.fingerprint),
        base=Subject(setting.sources["base"], bench.base.fingerprint),
        gold=None if bench.gold is None else Subject(setting.sources[GOLD], bench.gold.fingerprint),
        concept=_plain(bench.concept),
        judges=[JudgeFacts(judge.name, judge.fingerprint, judge.threshold) for judge in bench.judges],
        suite=bench.suite.model_dump(mode="json"),
        seed=bench.seed,
        frozen=len(bench.frozen),
        rows=rows,
        verdict=rule(
            rows,
            bench.suite.limits,
            bench.concept.name,
            kind=bench.concept.kind,
            gold=bench.gold is not None,
            novel=None if bench.novel is None else bench.novel.concept.name,
        ),
        notes=notes,
        record=record(seed=bench.seed),
        times={**times, "total": round(sum(times.values()), 3)},
        novel=novel_facts(bench),
        samples=[sample for output in outputs for sample in output.samples],
    )


def _write(
    made: Audit, outputs: Sequence[RowOutput], setting: Setting, out: Path, command: str | None
) -> None:
    import yaml

    from oubliette.report.audit_page import make_page, write_audit_page

    with atomic_folder(out) as folder:
        made.write(folder / JSON_NAME)
        made.write_samples(folder / "samples.jsonl")
        for output in outputs:
            for name, content in output.files.items():
                write_bytes(folder / name, content.encode())
        text = yaml.safe_dump(setting.bench.suite.model_dump(mode="json"), sort_keys=False)
        write_bytes(folder / "suite.yaml", text.encode())
        world = world_of(setting.bench.base.model).name
        page = make_page(made, {o.row.id: o.exhibits for o in outputs}, world=world, command=command)
        write_audit_page(page, folder / PAGE)


def _facts(bench: AuditContext) -> dict[str, Any]:
    """What must be the same for finished rows to be taken up again."""
    return {
        "model": bench.model.fingerprint,
        "base": bench.base.fingerprint,
        "gold": None if bench.gold is None else bench.gold.fingerprint,
        "concept": _plain(bench.concept),
        "novel": None if bench.novel is None else [_plain(bench.novel.concept), bench.novel.source],
        "judges": [[judge.name, judge.fingerprint] for judge in bench.judges],
        "suite": bench.suite.model_dump(mode="json"),
        "seed": bench.seed,
        "frozen": list(bench.frozen),
        "data": {
            name: None if path is None else content_hash(Path(path))
            for name, path in getattr(bench.driver, "paths", {}).items()
        },
    }


def _plain(concept: Concept) -> dict[str, Any]:
    facts = asdict(concept)
    return {**facts, "synonyms": list(facts["synonyms"])}
