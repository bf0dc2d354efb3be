"""The leaderboard in Markdown: erasers by balance, what each kind shows, the further concepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from oubliette.bench.audit.figures import CellFigures as AuditFigures
from oubliette.bench.audit.figures import names_in
from oubliette.bench.audit.table import against, area, ended, searched
from oubliette.bench.erasure.figures import CellFigures, balance
from oubliette.bench.words import NOTHING, counted, leaked, markdown, mean_of, percent
from oubliette.core.numbers import number
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import as_shown, too_few

__all__ = ["attack_table", "concept_table", "leader_table", "ordered"]

_SPLITS = ("in-set", "withheld")
_KEPT = ("near", "far", "other kinds")


def leader_table(cells: Sequence[CellFigures], names: Sequence[str], controls: Sequence[str]) -> str:
    """A row a subject over all its cells, controls first, then erasers by balance: H by kind, leakage and
    what is kept in percent (± half the 95 % t interval over runs), KID and CMMD times 1000, seconds of
    erasing.
    """
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    head = ["eraser", "runs", "balance", *(f"H, {kind}" for kind in kinds)]
    head += [f"leakage {split}" for split in _SPLITS] + [f"kept: {name}" for name in _KEPT]
    head += ["KID x1000", "CMMD", "seconds", "verdicts"]
    rows = []
    for name in ordered(cells, names, controls):
        group = [cell for cell in cells if cell.subject == name]
        row = [name, str(len(group)), number(balance(group))]
        row += [percent([cell.harmonic for cell in group if cell.kind == kind]) for kind in kinds]
        row += [leaked([cell.leakage.get(split) for cell in group]) for split in _SPLITS]
        row += [percent([cell.kept.get(part) for cell in group]) for part in _KEPT]
        row += [mean_of([cell.moved.get("KID") for cell in group], lambda value: f"{1000 * value:.0f}")]
        row += [mean_of([cell.moved.get("CMMD") for cell in group], lambda value: f"{value:.2f}")]
        row += [mean_of([cell.seconds for cell in group], lambda value: f"{value:.0f}")]
        rows.append([*row, counted([cell.verdict for cell in group])])
    return markdown(head, rows)


def attack_table(cells: Sequence[AuditFigures], erased: Sequence[CellFigures]) -> str:
    """A row an audited subject, in the order given: its balance, then what searches, fine-tuning on the
    concept and fine-tuning on other things find, gold's in brackets; a kind a line where there are several.
    """
    searches, trained = names_in(cells, "searched"), names_in(cells, "relearned")
    benign = names_in(cells, "benign")
    head = ["eraser", "balance", "kind", "verdict", *(f"{name} (gold)" for name in searches)]
    for name in trained:
        head += [f"{name}: area (gold)", "against gold"]
    head += [f"{name}: leakage at the end (gold)" for name in benign]
    rows = []
    for subject, kind in dict.fromkeys((cell.subject, cell.kind) for cell in cells):
        group = [cell for cell in cells if (cell.subject, cell.kind) == (subject, kind)]
        level = balance([cell for cell in erased if cell.subject == subject])
        row = [subject, number(level), kind, counted([cell.verdict for cell in group])]
        row += [searched(group, name) for name in searches]
        for name in trained:
            found = [cell.relearned[name] for cell in group if name in cell.relearned]
            row += [area(found), against(found)]
        rows.append(row + [ended([c.benign[name] for c in group if name in c.benign]) for name in benign])
    return markdown(head, rows)


def concept_table(cells: Sequence[CellFigures], names: Sequence[str], controls: Sequence[str]) -> str:
    """A row a subject and concept: leakage with its interval (over pictures for one run, over runs for more),
    what is kept, the harmonic mean.
    """
    concepts = list(dict.fromkeys((cell.kind, cell.concept) for cell in cells))
    head = ["concept", "eraser", "runs", *(f"leakage {split}" for split in _SPLITS)]
    head += [*(f"kept: {name}" for name in _KEPT), "H", "verdicts"]
    rows = []
    for kind, concept in concepts:
        there = [cell for cell in cells if (cell.kind, cell.concept) == (kind, concept)]
        for name in ordered(there, names, controls):
            group = [cell for cell in there if cell.subject == name]
            row = [concept, name, str(len(group)), *(_leak(group, split) for split in _SPLITS)]
            row += [percent([cell.kept.get(part) for cell in group]) for part in _KEPT]
            rows.append(
                [*row, percent([cell.harmonic for cell in group]), counted([cell.verdict for cell in group])]
            )
    return markdown(head, rows)


def ordered(cells: Sequence[CellFigures], names: Sequence[str], controls: Sequence[str]) -> list[str]:
    """The subjects that have cells: controls in the plan's order, then erasers, the best balance first."""
    groups: dict[str, list[CellFigures]] = defaultdict(list)
    for cell in cells:
        groups[cell.subject].append(cell)
    erasers = [name for name in names if name in groups and name not in controls]
    return [name for name in controls if name in groups] + sorted(
        erasers, key=lambda name: -balance(groups[name])
    )


def _leak(group: Sequence[CellFigures], split: str) -> str:
    if len(group) > 1:
        return leaked([cell.leakage.get(split) for cell in group])
    (cell,) = group
    if split not in cell.leakage:
        return NOTHING
    low, high = cell.bounds[split]
    made, few = as_shown(Estimate(cell.leakage[split], low, high, cell.n))
    sides = f" [{leaked([made.low])}, {leaked([made.high])}]" + (f", {too_few()}" if few else "")
    return leaked([made.value]) + sides
