"""Suites by name or file: read, and checked before anything runs for what is unknown or zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from oubliette.audit.resolve import changes_weights, make_probe, make_search, resolve
from oubliette.audit.suite import (
    ROWS,
    BenignRow,
    EvaluationRow,
    ProbeRow,
    PromptsRow,
    RelearnRow,
    RowSpec,
    Suite,
)
from oubliette.audit.sweeping import rates_of
from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import validated
from oubliette.world.world import every_world

__all__ = ["build_suite", "check", "read_suite", "suite_names", "suite_text"]


def suite_names() -> list[str]:
    """The suites that ship."""
    return [name for name in ("quick", "standard", "full", "bench", "answers") if _shipped(name).is_file()]


def suite_text(name: str) -> str:
    """A shipped suite's YAML, to copy and edit; UserError for a name that is not one."""
    if name not in suite_names():
        raise UserError(f"no suite is called '{name}'; {suggest(name, suite_names())}")
    return _shipped(name).read_text(encoding="utf-8")


def read_suite(source: str | Path) -> Suite:
    """A shipped suite by name, or one in a YAML file; UserError with the nearest right word."""
    path = Path(source)
    if str(source) in suite_names():
        text, where = suite_text(str(source)), f"suite {source}"
    elif path.suffix in (".yaml", ".yml") or path.exists():
        try:
            text, where = path.read_text(encoding="utf-8"), f"suite {path}"
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"suite {path}: cannot be read ({reason})") from error
    else:
        raise UserError(
            f"no suite is called '{source}', and no such file; {suggest(str(source), suite_names())}"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    return build_suite(content, where)


def build_suite(content: Any, where: str = "suite") -> Suite:
    """A checked suite from plain data; UserError, opening with `where`, for what is unknown or zero."""
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected keys with values, found {type(content).__name__}")
    suite = validated(Suite, content, where)
    rows = [_row(raw, f"{where}: row {number}") for number, raw in enumerate(suite.rows, 1)]
    if not any(isinstance(row, EvaluationRow) for row in rows):
        raise UserError(f"{where}: has no row 'evaluation', without which there is no verdict")
    if sum(isinstance(row, EvaluationRow) for row in rows) > 1:
        raise UserError(f"{where}: has more than one row 'evaluation'")
    return suite.model_copy(update={"rows": rows})


def check(spec: Any) -> None:
    """UserError, with the nearest right word, where a row names something that is not or a budget of zero."""
    _CHECKS[type(spec)](spec)


def _evaluation(spec: EvaluationRow) -> None:
    from oubliette.eval.controls import check_control

    for control in spec.controls:
        check_control(control)


def _prompts(spec: PromptsRow) -> None:
    make_search(spec)


def _probe(spec: ProbeRow) -> None:
    make_probe(spec)
    if changes_weights(spec) and spec.cases != ProbeRow.model_fields["cases"].default:
        raise UserError(
            f"probe '{spec.probe}' has no 'cases': it asks what every point of a curve asks, as the suite's "
            "'pictures' and 'kept' say"
        )


def _relearn(spec: RelearnRow) -> None:
    found = resolve(spec)
    small = [resolve(spec, world) for world in every_world()]
    if spec.sweep is not None:
        # Some have rates for one world alone: where the model is known, it is asked again.
        rates_of(spec, next((made for made in (found, *small) if made.learning_rates), found))
    if isinstance(spec, BenignRow) != found.benign:
        wanted, other = ("benign", "relearn") if found.benign else ("relearn", "benign")
        raise UserError(f"its data are {found.data!r}: write 'row: {wanted}', not 'row: {other}'")


def _row(raw: Any, where: str) -> RowSpec:
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys with values ('row: relearn' and its budget), found {raw!r}")
    kind = raw.get("row")
    if kind not in ROWS:
        raise UserError(f"{where}: no row is called '{kind}'; {suggest(str(kind), ROWS)}")
    spec = validated(ROWS[kind], raw, f"{where} ({kind})")
    try:
        check(spec)
    except UserError as error:
        raise UserError(f"{where} ({kind}): {error}") from None
    return spec


def _shipped(name: str) -> Any:
    return files("oubliette.audit") / "suites" / f"{name}.yaml"


_CHECKS: dict[type, Callable[[Any], None]] = {
    EvaluationRow: _evaluation,
    PromptsRow: _prompts,
    ProbeRow: _probe,
    RelearnRow: _relearn,
    BenignRow: _relearn,
}
