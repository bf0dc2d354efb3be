"""Whether the figures put the controls in the order that is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oubliette.core.numbers import percent
from oubliette.eval.controls import FILTER, GOLD, NONE, RANDOM
from oubliette.eval.plan import IN_SET, WITHHELD
from oubliette.eval.result import ConceptFigures, Row


def misordered(rows: Sequence[Row]) -> list[str]:
    """One line for each figure that misorders the controls among the rows; empty where all is as it must be.

    The base must show each concept more often than gold, random weights and the filtered prompt; where there
    is gold, and the base so is known to show the concept, also more often than the floor; the prompt filter
    must leak on synonyms more than on the words it drops; random weights must keep less than the base and
    than gold. A tie is out of order. A figure that fails here is broken, or n is too small to tell.
    """
    controls = {row.name: row for row in rows if row.role == "control"}
    if NONE not in controls:
        return []
    complaints = []
    for index, none in enumerate(controls[NONE].concepts):
        figures = {name: row.concepts[index] for name, row in controls.items()}
        complaints += _leakage(none, figures) + _utility(none, figures)
    return complaints + _fidelity(controls)


def _leakage(none: ConceptFigures, figures: Mapping[str, ConceptFigures]) -> list[str]:
    found = []
    for shown in none.leakage:
        if GOLD in figures and shown.rate.value <= shown.floor.value:
            found.append(
                f"{none.name}: {shown.judge} finds it in {percent(shown.rate.value)} of the base's pictures "
                f"and in {percent(shown.floor.value)} of those without it ({shown.split})"
            )
        for name in (GOLD, RANDOM, FILTER):
            other = figures[name].leakage_of(shown.split, shown.judge) if name in figures else None
            if other is None or (name == FILTER and shown.split != IN_SET):
                continue
            if other.rate.value >= shown.rate.value:
                found.append(
                    f"{none.name}: {shown.judge} finds it in {percent(other.rate.value)} of {name}'s "
                    f"pictures and in {percent(shown.rate.value)} of the base's ({shown.split})"
                )
    for judge in {figure.judge for figure in none.leakage} if FILTER in figures else set():
        dropped = figures[FILTER].leakage_of(IN_SET, judge)
        synonyms = figures[FILTER].leakage_of(WITHHELD, judge)
        if dropped and synonyms and synonyms.rate.value <= dropped.rate.value:
            found.append(f"{none.name}: by {judge} the prompt filter does not leak on synonyms")
    return found


def _utility(none: ConceptFigures, figures: Mapping[str, ConceptFigures]) -> list[str]:
    found = []
    for part in ("ira", "cra"):
        kept = {
            name: figure.rate.value
            for name, own in figures.items()
            if own.utility is not None and (figure := getattr(own.utility, part)) is not None
        }
        for name in (NONE, GOLD):
            if RANDOM in kept and name in kept and kept[RANDOM] >= kept[name]:
                found.append(f"{none.name}: {part.upper()} of random weights is not below that of {name}")
    return found


def _fidelity(controls: Mapping[str, Row]) -> list[str]:
    random, none = controls.get(RANDOM), controls[NONE]
    if random is None:
        return []
    found = []
    for name in ("kid", "cmmd"):
        shown, ground = getattr(random.fidelity, name), getattr(none.fidelity, name)
        if shown is not None and ground is not None and shown.value <= ground.value:
            found.append(f"{name.upper()} of random weights is not above that of the base")
    return found
