"""Whether what a suite's row names is there: attacks, probes, controls, their options and budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oubliette.audit.suite import BenignRow, EvaluationRow, ProbeRow, PromptsRow, RelearnRow
from oubliette.audit.sweeping import rates_of
from oubliette.core.errors import UserError

__all__ = ["check"]


def check(spec: Any) -> None:
    """UserError, with the nearest right word, where a row names something that is not or a budget of zero."""
    _CHECKS[type(spec)](spec)


def _evaluation(spec: EvaluationRow) -> None:
    from oubliette.eval.controls import check_control

    for control in spec.controls:
        check_control(control)


def _prompts(spec: PromptsRow) -> None:
    from oubliette.audit.resolve import make_search

    make_search(spec)


def _probe(spec: ProbeRow) -> None:
    from oubliette.audit.resolve import make_probe

    make_probe(spec)


def _relearn(spec: RelearnRow) -> None:
    from oubliette.audit.resolve import resolve

    both = [resolve(spec, world) for world in (None, "picture")]
    found = both[-1]
    if spec.sweep is not None:
        # Some have rates for the embedded world alone: where the model is known, it is asked again.
        rates_of(spec, next((made for made in both if made.learning_rates), found))
    if isinstance(spec, BenignRow) != found.benign:
        wanted, other = ("benign", "relearn") if found.benign else ("relearn", "benign")
        raise UserError(f"its data are {found.data!r}: write 'row: {wanted}', not 'row: {other}'")


_CHECKS: dict[type, Callable[[Any], None]] = {
    EvaluationRow: _evaluation,
    PromptsRow: _prompts,
    ProbeRow: _probe,
    RelearnRow: _relearn,
    BenignRow: _relearn,
}
