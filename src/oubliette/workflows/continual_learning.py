"""A classifier that learns task after task, from the names that a user gives to a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oubliette.continual.method import read_method
from oubliette.continual.run import Settings, learn
from oubliette.continual.tasks import parse_tasks
from oubliette.core.errors import UserError
from oubliette.core.run_folder import Unfinished
from oubliette.core.validation import validated
from oubliette.data.labelled import read_labelled

__all__ = ["REFRESHES", "run_tasks", "settings_of"]

#: What `--refresh` takes: the smoother's options, None for none.
REFRESHES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "released": {"form": "released"},
    "paper": {"form": "paper"},
}


def settings_of(refresh: str, given: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """Settings from options and "key=value" changes, of which "refresh.J" and the like are refresh's.

    UserError for an unknown form or key, and for a change of a refresh that is not asked for.
    """
    if refresh not in REFRESHES:
        raise UserError(f"--refresh: expected {', '.join(REFRESHES)}; found '{refresh}'")
    own = {k.removeprefix("refresh."): v for k, v in changes.items() if k.startswith("refresh.")}
    form = REFRESHES[refresh]
    if form is None and own:
        raise UserError(
            f"refresh.{next(iter(own))}: there is no refresh to set; --refresh released asks for one"
        )
    plain = {key: value for key, value in changes.items() if not key.startswith("refresh.")}
    made = None if form is None else {**form, **own}
    return validated(Settings, {**given, **plain, "refresh": made}, "continual run")


def run_tasks(
    data: Path | str,
    out: Path | str,
    settings: Settings,
    *,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Learn every task, save the classifier to `out` with its record, and give the record's "continual" part.

    `data` is a folder of pictures or parquet files, as `oubliette.data.labelled.read_labelled` has it. A run
    that
    was cut short goes on in the same bits with `resume`. UserError, before any work, for what does not fit.
    """
    parse_tasks(settings.tasks)
    method = read_method(settings.method)
    settings.smoother()
    out = Path(out)
    unfinished = Unfinished(out, resume=resume)
    with unfinished:
        unfinished.refuse_target()
        pictures = read_labelled(data, settings.side)
        facts = {
            "settings": settings.model_dump(mode="json"),
            "method": method.model_dump(mode="json"),
            "data": pictures.fingerprint(),
        }
        unfinished.claim(facts)
        found, model = learn(settings, pictures, unfinished.folder, progress=progress)
        result = {**facts, "classes": pictures.classes, **asdict(found), "figures": found.figures()}
        unfinished.saving()
        model.save(out, record={"seed": settings.seed, "continual": result})
    return result
