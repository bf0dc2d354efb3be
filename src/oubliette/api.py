"""The package's face: load or wrap a model, erase from it, evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.compose import compose, make_concepts
from oubliette.data.concept import Concept
from oubliette.errors import UserError
from oubliette.manifest import read_manifest

if TYPE_CHECKING:
    import torch

    from oubliette.backends.base import Backend
    from oubliette.erase.result import EraseResult
    from oubliette.eval.result import Evaluation

__all__ = ["base_of", "concepts_of", "erase", "evaluate", "load", "wrap"]


def load(
    source: Any,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    base: Any = None,
) -> Backend:
    """Open a model: an embedded name ("nano"), a folder of diffusers, transformers or a delta, a Hub id.

    float32 on the GPU where there is one, else on the CPU, unless `device` and `dtype` say otherwise. `base`
    is what a delta goes on top of, by default what its record names. Raises UserError for what is no model,
    and for pickles.
    """
    from oubliette.backends import open_model

    return open_model(source, device=device, dtype=dtype, base=base)


def wrap(pipe: Any) -> Backend:
    """Take a diffusers pipeline that is already in memory; what is erased here is erased in the pipeline."""
    return load(pipe)


def erase(
    model: Any,
    concept: str | Sequence[str] = (),
    anchor: str | Sequence[str] | None = None,
    *,
    kind: str | Sequence[str] | None = None,
    method: str | None = None,
    scope: str | None = None,
    surgery: str | Mapping[str, Any] | None = None,
    smoother: str | Mapping[str, Any] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    prompts: Path | str | None = None,
    retain: Path | str | Sequence[str] | None = None,
    forget: Path | str | None = None,
    data: Path | str | None = None,
    freeze: Path | str | Sequence[str] | None = None,
    overrides: Iterable[str] = (),
    callback: Callable[[int, Any], None] | None = None,
    callback_every: int = 0,
    show_progress: bool = True,
) -> EraseResult:
    """Erase one or more concepts from a model, in place; `result.undo()` gives every bit back.

    `model` is a backend (`load`, `wrap`) or anything `load` opens. The other options are those of
    `oubliette.compose.compose`; `callback(step, loop)` is called every `callback_every` updates. Raises
    UserError for what cannot be done; the model is then as it was.
    """
    from oubliette.erase.run import erase as run

    opened = load(model)
    recipe = compose(
        opened,
        concept=concept,
        anchor=anchor,
        kind=kind,
        method=method,
        scope=scope,
        surgery=surgery,
        smoother=smoother,
        seed=seed,
        steps=steps,
        prompts=prompts,
        retain=retain,
        forget=forget,
        data=data,
        freeze=freeze,
        overrides=overrides,
    )
    return run(opened, recipe, callback=callback, callback_every=callback_every, show_progress=show_progress)


def evaluate(
    model: Any,
    base: Any = None,
    concept: str | Sequence[str] | Sequence[Concept] | None = None,
    anchor: str | Sequence[str] | None = None,
    *,
    kind: str | Sequence[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> Evaluation:
    """Measure what leaks from a model and what it lost, against its base.

    `model` and `base` are backends or anything `load` opens. Base and concepts are by default those that the
    model's record names. `options` are those of `oubliette.eval.evaluate.compare` (`n`, `judges`, `cache`,
    `controls`, `prompts_csv`, ...); `name` is what the model's row is called, by
    default as its folder. Raises UserError for what cannot be measured.
    """
    from oubliette.eval.evaluate import evaluate as measure

    opened = load(model)
    before = load(base if base is not None else base_of(opened))
    for one in (opened, before):
        if getattr(one, "kind", None) != "diffusion":
            raise UserError(f"{one.source}: is a {one.kind} model; only models that draw can be evaluated")
    return measure(
        opened, before, concepts_of(opened, concept, anchor, kind, world=before), name=name, **options
    )


def base_of(model: Backend) -> str:
    """What the record of a saved model names as its base; UserError where it has none."""
    from oubliette.backends.delta import base_of as recorded

    if not Path(model.source).is_dir():
        raise UserError(f"{model.source}: has no record of a base; say what to compare with (base, --base)")
    return recorded(model.source)


def concepts_of(
    model: Backend,
    concept: str | Sequence[str] | Sequence[Concept] | None = None,
    anchor: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    *,
    world: Backend | None = None,
) -> list[Concept]:
    """The concepts as given, or those that the model's record says were erased; UserError where none is."""
    given = [concept] if isinstance(concept, str) else list(concept or ())
    if given:
        whole = [item for item in given if isinstance(item, Concept)]
        if whole:
            return whole
        return make_concepts(world or model, [str(item) for item in given], anchor, kind)
    source = Path(model.source)
    recipe = read_manifest(source).get("recipe", {}) if source.is_dir() else {}
    found = [
        Concept(item["name"], item["anchor"], item["kind"], tuple(item.get("synonyms", ())))
        for item in recipe.get("concepts", ())
    ]
    if not found:
        raise UserError(f"{model.source}: has no record of what was erased; name it (concept, --concept)")
    return found
