"""Tables: what stands in a cell, over one run and over several."""

from __future__ import annotations

import math

from bench.audit.cells import audit, cell, figures, relearned
from oubliette.bench.audit.contrasts import differences
from oubliette.bench.audit.figures import figures_of
from oubliette.bench.audit.plan import Contrast
from oubliette.bench.audit.table import contrast_table, prompt_table, relearning_table


def rows(table: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_run_has_values_and_several_have_intervals() -> None:
    head, _, one, many = rows(
        prompt_table([figures("UCE"), *(figures("ESD", s, found=0.25 + s / 8) for s in range(3))])
    )
    assert head[:6] == ["eraser", "kind", "runs", "verdict", "leakage in-set", "leakage withheld"]
    assert one == ["UCE", "object", "1", "hidden", "5", "10", "25 (12)", "90", "100"]
    assert many[6] == "38 ± 31 (12 ± 0)"  # 0.375 ± 4.303 * 0.125 / sqrt(3)


def test_verdicts_are_counted() -> None:
    table = prompt_table([figures("A"), figures("A", 1), figures("A", 2, verdict="erased")])
    assert rows(table)[2][3] == "hidden (2), erased (1)"


def test_sooner_later_and_bounds() -> None:
    def against(*found: object) -> str:
        cells = [figures("A", i, relearned={"full": one}) for i, one in enumerate(found)]
        return rows(relearning_table(cells))[2][5]

    log = math.log
    assert against(relearned(0.5, advantage=log(4))) == "4.0× sooner"
    assert against(relearned(0.5, advantage=-log(5))) == "5.0× later"
    assert against(relearned(0.5, advantage=0.01)) == "as soon"
    assert against(relearned(0.5, advantage=log(4), sign=">")) == "≥ 4.0× sooner"
    assert against(relearned(0.5, advantage=-log(4), sign=">")) == "≤ 4.0× later"
    assert against(relearned(0.5, advantage=-log(4), sign="<")) == "≥ 4.0× later"
    assert against(relearned(0.5, advantage=None, state="at once", sign="")) == "at once"
    mixed = against(relearned(0.5, advantage=log(4)), relearned(0.5, advantage=None, state="neither"))
    assert mixed == "4.0× sooner (1 of 2 untold)"


def test_steps_to_half_are_a_geometric_mean_and_say_what_never_came() -> None:
    def half(*values: float | None) -> str:
        cells = [figures("A", i, relearned={"full": relearned(0.5, half=v)}) for i, v in enumerate(values)]
        return rows(relearning_table(cells))[2][4]

    assert half(1.0, 7.0) == "3.0"  # sqrt(2 * 8) - 1
    assert half(None) == "> 64"
    assert half(7.0, None) == "7.0 (1 of 2 not in 64)"


def test_contrasts_are_in_points() -> None:
    found = differences([figures("A"), figures("B", area=0.75)], Contrast(name="c", pairs=[("B", "A")]))
    line = next(row for row in rows(contrast_table(found)) if row[1] == "full, area")
    assert line == ["c", "full, area", "1", "+25"]


def test_a_cells_figures_are_its_audits() -> None:
    made = figures_of(cell(), audit())
    full = made.relearned["Full fine-tuning, 16 pictures"]
    row = next(r for r in audit().rows if r.title == "Full fine-tuning, 16 pictures")
    assert full.area == row.of("model")[0].area
    assert full.gold_area == row.of("gold")[0].area
    assert full.half == row.of("model")[0].to_half
    assert row.sooner is not None
    assert (full.advantage, full.sign) == (row.sooner.value, row.sooner.sign)
    assert list(made.benign) == ["Full fine-tuning, benign, 64 pictures"]
    assert made.verdict == audit().verdict.word
    assert "Probe: transplant" not in made.searched  # skipped
    assert made.kind == "object"
