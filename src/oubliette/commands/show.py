"""Facts as lines on standard output, and how a command was called."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import shown, tidy
from oubliette.core.numbers import percent

if TYPE_CHECKING:
    from oubliette.eval.result import Evaluation
    from oubliette.workflows.continual.result import StreamOutcome
    from oubliette.workflows.erase import Outcome


def as_json(content: Any) -> None:
    """Print JSON to standard output."""
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def command_line() -> str:
    """The command as it was typed."""
    return shlex.join(["oubliette", *sys.argv[1:]])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns that line up; the last column is as long as it is."""
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(max(map(len, rows), default=0))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def pairs(content: Mapping[str, Any]) -> str:
    """Names and values in two columns."""
    return columns([[name, str(value)] for name, value in content.items()])


def estimate(content: Mapping[str, Any]) -> str:
    """What a run will cost, in two columns, with units."""
    return pairs({name: _amount(name, value) for name, value in content.items()})


def _amount(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if name.startswith("memory"):
        return f"{value} MiB"
    return f"{value:,.4g} s" if name.startswith("seconds") else value


def bars(found: Sequence[Mapping[str, Any]]) -> str:
    """Bars with value, bound and whether each was passed; what has no bound is reported only."""
    rows = [["", "bar", "value", "bound", "n"]]
    for bar in found:
        bounded = bar["bound"] is not None
        bound = f"at {'most' if bar.get('below') else 'least'} {bar['bound']:g}" if bounded else "reported"
        rows.append(
            [
                ("ok" if bar["passed"] else "FAILED") if bounded else "",
                bar["name"],
                f"{bar['value']:.4g}",
                bound,
                str(bar["n"]),
            ]
        )
    return columns(rows)


def table(evaluation: Evaluation) -> str:
    """Leakage, what was kept, and the verdict of every row on every concept."""
    from oubliette.data.wording import wording_of
    from oubliette.eval.verdict import describe_share

    splits = list(
        dict.fromkeys(figure.split for row in evaluation.rows for c in row.concepts for figure in c.leakage)
    )
    rows = [["model", "concept", *(f"leakage {split}" for split in splits), "IRA", "CRA", "verdict"]]
    for row in evaluation.rows:
        for figures in row.concepts:
            cells = [shown(row.name), shown(figures.name)]
            for split in splits:
                found = figures.leakage_of(split)
                cells.append(
                    "-" if found is None else describe_share(found.leakage, wording_of(figures.kind))
                )
            for name in ("ira", "cra"):
                kept = getattr(figures.utility, name, None)
                cells.append(
                    "-" if kept is None else f"{percent(kept.rate.value)} of {percent(kept.base.value)}"
                )
            cells.append(figures.verdict.word if row.role == "model" else "(control)")
            rows.append(cells)
    notes = [f"! {tidy(line)}" for line in evaluation.complaints]
    notes += [f"note: {tidy(line)}" for line in evaluation.notes]
    notes += [
        f"{tidy(row.name)}, {tidy(figures.name)}: {figures.verdict.more}"
        for row in evaluation.models
        for figures in row.concepts
        if figures.verdict.more
    ]
    agreed = [f"judges: {line}" for line in evaluation.agreement]
    further = ["", columns(metric_table(evaluation)), ""] if evaluation.metrics else []
    return "\n".join([columns(rows), *further, f"bounds: {evaluation.bounds}", *agreed, *notes])


def metric_table(evaluation: Evaluation) -> list[list[str]]:
    """A line a metric and set, a column a row of the evaluation."""
    from oubliette.eval.metric import by_metric, number

    names = [row.name for row in evaluation.rows]
    lines = [["metric", "set", "better", *map(shown, names), "n"]]
    for (metric, where, better), figures in by_metric(evaluation.metrics).items():
        cells = [str(figures[name]) if name in figures else "-" for name in names]
        first = next(iter(figures.values()))
        chance = "" if first.chance is None else f" (chance {number(first.chance)})"
        lines.append([metric, where + chance, better, *cells, str(first.n)])
    return lines


def outcome(done: Outcome) -> str:
    """What a job left behind."""
    seconds = {phase: f"{value:.1f} s" for phase, value in done.result.seconds.items() if value}
    lines = [
        f"saved    {done.out} ({done.result.recipe.save.form})",
        f"seconds  {', '.join(f'{phase} {value}' for phase, value in seconds.items())}",
    ]
    if done.lost == 1:
        lines.append("update   all of it was lost in rounding: nothing is erased (see --save-dtype)")
    evaluation = done.check.evaluation
    if done.check.answers is not None:
        lines += [f"check    {line}" for line in done.check.answers.lines()]
    if evaluation is None:
        what = "not checked" if done.check.answers is None else "no verdict"
        lines.append(f"check    {what}: {done.check.reason}")
    else:
        for row in evaluation.models:
            for figures in row.concepts:
                more = [figures.verdict.more] if figures.verdict.more else []
                reasons = "; ".join([*figures.verdict.reasons, *more])
                lines.append(f"check    {shown(figures.name)}: {figures.verdict.word} ({reasons})")
        lines += [f"note     {tidy(line)}" for line in evaluation.notes]
        lines.append(f"bounds   {evaluation.bounds}")
    if done.page is not None:
        lines.append(f"report   {done.page}")
    return "\n".join(lines)


def stream(done: StreamOutcome) -> str:
    """What a stream left behind."""
    lines = [done.table(), f"saved    {done.out} ({done.form}), and a folder a checkpoint"]
    if done.page is not None:
        lines.append(f"report   {done.page}")
    return "\n".join(lines)
