"""The embedded world from outside: a sheet of its pictures, the training of its models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oubliette.core.errors import UserError
from oubliette.core.writing import parents, writing
from oubliette.data.picture_sheet import check_target, write_sheet

__all__ = ["train_world", "world_sheet"]


def world_sheet(out: Path | str, *, n: int = 64, seed: int = 0) -> Path:
    """Draw `n` pictures of the picture world's known things onto a sheet, about square; returns its path."""
    check_target(out)
    from oubliette.world import batch

    pictures = batch.pictures(batch.scenes(batch.Pool.known(), n, seed))
    return write_sheet(pictures, out, columns=max(1, round(n**0.5)))


def train_world(
    stages: Sequence[str],
    cache: Path | str,
    out: Path | str | None = None,
    *,
    data: Path | str | None = None,
    side: int = 32,
    seed: int = 0,
    groups: Sequence[str] = (),
) -> Path:
    """Train the named stages of the embedded models (all where none is named), or the same models on `data`.

    `data` is a labelled picture set, cut to `side` pixels; `seed` is for that training alone, since the
    embedded models' is fixed; `groups` are its broader words, "animal=cat,dog". Checkpoints and finished
    stages lie in `cache`. Returns where the models are.
    """
    if data is None:
        from oubliette.workflows.world.training.all import check_stages, train_models

        check_stages(stages)
        with parents(cache), parents(out or cache), writing(out or cache):
            train_models(list(stages), Path(cache), None if out is None else Path(out))
        return Path(out or cache)
    if stages:
        raise UserError(f"stage {stages[0]!r}: with --data all stages are trained; name none")
    from oubliette.workflows.world.training.class_captions import parse_groups
    from oubliette.workflows.world.training.pictures import train_on_pictures

    target = Path(out or Path(cache) / "models")
    with parents(cache), parents(target), writing(cache):
        train_on_pictures(data, target, cache, side=side, seed=seed, groups=parse_groups(groups))
    return target
