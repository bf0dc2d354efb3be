"""The package's face: load or wrap a model, erase from it, evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.backends import open_model as load
from oubliette.data.concept import Concept
from oubliette.data.concepts import concepts_of
from oubliette.workflows.compose import compose
from oubliette.workflows.order import Order

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.backends.prompting import Prompting
    from oubliette.erase.result import EraseResult
    from oubliette.eval.result import Evaluation

__all__ = ["erase", "evaluate", "load", "wrap"]


def wrap(model: Any, tokenizer: Any = None) -> Backend:
    """Take a diffusers pipeline, or a causal language model of transformers with its tokenizer, that is in
    memory already: what is erased from it, or attached to it, is so for whoever else holds it.

    All weights are frozen (`requires_grad` False) and dropout is off from then on. UserError for anything
    else.
    """
    if tokenizer is None:
        return load(model)
    from oubliette.backends.language import LanguageBackend

    return LanguageBackend.from_model(model, tokenizer)


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
    prompting: Prompting | None = None,
    overrides: Iterable[str] = (),
    callback: Callable[[int, Any], None] | None = None,
    callback_every: int = 0,
    show_progress: bool = True,
) -> EraseResult:
    """Erase one or more concepts from a model, in place; `result.undo()` gives every bit back.

    `model` is a backend (`load`, `wrap`) or anything `load` opens. The other options are those of
    `oubliette.workflows.order.Order`; `callback(step, loop)` is called every `callback_every` updates.
    Raises UserError for what cannot be done; the model is then as it was.
    """
    from oubliette.erase.run import erase as run

    opened = load(model)
    order = Order(
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
        prompting=prompting,
        overrides=overrides,
    )
    return run(
        opened,
        compose(opened, order),
        callback=callback,
        callback_every=callback_every,
        show_progress=show_progress,
    )


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
    from oubliette.backends.files.delta import recorded_base
    from oubliette.eval.evaluate import evaluate as measure
    from oubliette.eval.pictures.sampling import require_drawing

    opened = load(model)
    before = load(base if base is not None else recorded_base(opened))
    require_drawing(opened, before)
    return measure(
        opened, before, concepts_of(opened, concept, anchor, kind, world=before), name=name, **options
    )
