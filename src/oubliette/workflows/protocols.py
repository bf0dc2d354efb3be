"""The field's own protocols from names to figures on disk: open, draw, judge, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.backends.base import draws
from oubliette.core.errors import UserError
from oubliette.core.manifest import refuse_existing, write_json
from oubliette.core.progress import counted
from oubliette.core.writing import parents

if TYPE_CHECKING:
    from oubliette.data.concept import Concept

__all__ = ["canvas", "cer", "classes", "harmonic"]

Measured = list[dict[str, Any]]


def canvas(
    models: Sequence[Any] = (),
    concept: str | None = None,
    *,
    kind: str | None = None,
    folder: Path | str | None = None,
    judges: Sequence[str] | None = None,
    styles: str | None = None,
    objects: str | None = None,
    seeds: Sequence[int] | None = None,
    prompt: str | None = None,
    reference: Path | str | None = None,
    steps: int = 25,
    guidance: float = 3.0,
    cache: Path | str | None = None,
    out: Path | str | None = None,
) -> Measured:
    """UnlearnCanvas on models, or on a folder of answers: a dict of figures each (`Canvas.to_dict`).

    `styles` and `objects` are names with commas between, or a file with one a line. `out` is a new JSON file.
    Raises UserError for what cannot be measured, and where `out` exists.
    """
    from oubliette.eval.protocols import canvas as own
    from oubliette.eval.protocols.canvas_folder import canvas_of_folder
    from oubliette.world.facts import BROADER

    grid: dict[str, Any] = {"styles": _names(styles), "objects": _names(objects)}
    if folder is None:
        chosen: dict[str, Any] = {
            "seeds": tuple(seeds or own.SEEDS),
            "prompt": prompt or own.PROMPT,
            "reference": reference,
        }

        def one(model: Any, how: dict[str, Any]) -> dict[str, Any]:
            erased = _one_concept(model, concept, kind)
            return own.canvas(model, erased, judges, **grid, **chosen, **how).to_dict()

        return _on_models("UnlearnCanvas", models, one, steps, guidance, cache, out)
    given = [name for name, value in (("--model", models), ("--seed", seeds), ("--form", prompt)) if value]
    if given:
        raise UserError(f"canvas: {given[0]} does nothing for a folder of answers; leave it out, or --folder")
    if concept is None or kind is None:
        raise UserError(
            "canvas: a folder does not say what was erased; give --concept and --kind (style, object)"
        )
    if out is not None:
        refuse_existing(out)
    from oubliette.data.concept import Concept

    what = Concept(concept, BROADER.get(kind, ""), kind)
    return _written(
        [canvas_of_folder(folder, what, judges or (), **grid, reference=reference).to_dict()], out
    )


def classes(
    models: Sequence[Any],
    prompts: Path | str,
    erased: Sequence[str],
    *,
    kind: str = "object",
    judges: Sequence[str] | None = None,
    steps: int = 25,
    guidance: float = 3.0,
    cache: Path | str | None = None,
    out: Path | str | None = None,
) -> Measured:
    """The class protocol on models: a dict of figures each (`ClassResult.to_dict`); see `class_protocol`."""
    from oubliette.eval.protocols.classes import class_protocol, read_classes

    read_classes(prompts)

    def one(model: Any, how: dict[str, Any]) -> dict[str, Any]:
        return class_protocol(model, erased, prompts, judges, kind=kind, **how).to_dict()

    return _on_models("class protocol", models, one, steps, guidance, cache, out)


def harmonic(
    models: Sequence[Any],
    concept: str | None = None,
    *,
    kind: str | None = None,
    judges: Sequence[str] | None = None,
    n: int = 50,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
    cache: Path | str | None = None,
    out: Path | str | None = None,
) -> Measured:
    """MACE's harmonic mean of models: a dict of figures each (`HarmonicResult.to_dict`)."""
    from oubliette.eval.protocols import harmonic as own

    def one(model: Any, how: dict[str, Any]) -> dict[str, Any]:
        erased = _one_concept(model, concept, kind)
        return own.harmonic(model, erased, judges, n=n, seed=seed, **how).to_dict()

    return _on_models("harmonic mean", models, one, steps, guidance, cache, out)


def cer(
    models: Sequence[Any],
    concepts: Sequence[str] = (),
    *,
    anchors: Sequence[str] = (),
    kinds: Sequence[str] = (),
    judge: str | None = None,
    templates: Path | str | None = None,
    each: int = 10,
    against: str = "empty",
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
    cache: Path | str | None = None,
    out: Path | str | None = None,
) -> Measured:
    """SPM's CLIP error rate of models on concepts: a dict of figures each (`CerResult.to_dict`)."""
    from oubliette.data.concepts import concepts_of
    from oubliette.eval.protocols import cer as own

    if templates is not None:
        own.read_templates(templates)

    def one(model: Any, how: dict[str, Any]) -> dict[str, Any]:
        asked = concepts_of(model, list(concepts), list(anchors) or None, list(kinds) or None)
        options: dict[str, Any] = {"templates": templates, "each": each, "against": against, "seed": seed}
        return own.cer(model, asked, judge, **options, **how).to_dict()

    return _on_models("CLIP error rate", models, one, steps, guidance, cache, out)


def _on_models(
    title: str,
    models: Sequence[Any],
    one: Callable[[Any, dict[str, Any]], dict[str, Any]],
    steps: int,
    guidance: float,
    cache: Path | str | None,
    out: Path | str | None,
) -> Measured:
    """One measurement after another, pictures kept until all are done."""
    from oubliette.backends import open_model
    from oubliette.eval.pictures.kept import pictures_kept
    from oubliette.eval.pictures.sampling import Sampling

    if not models:
        raise UserError(f"{title}: no model was given to measure (--model)")
    if out is not None:
        refuse_existing(out)
    sampling, found = Sampling(steps=steps, guidance=guidance), []
    with pictures_kept(out, cache) as store:
        for model in models:
            opened = open_model(model)
            if not draws(opened):
                raise UserError(f"{opened.source}: is a {opened.kind} model; these are of models that draw")
            with counted(f"{title}, {opened.source}", "pictures") as told:
                found.append(one(opened, {"sampling": sampling, "cache": store, "progress": told}))
        return _written(found, out)


def _written(found: Measured, out: Path | str | None) -> Measured:
    if out is not None:
        with parents(out):
            write_json(out, found)
    return found


def _one_concept(model: Any, concept: str | None, kind: str | None) -> Concept:
    from oubliette.data.concepts import concepts_of

    found = concepts_of(model, concept, None, kind)
    if len(found) != 1:
        names = ", ".join(one.name for one in found)
        raise UserError(f"{model.source}: {names} were erased; name the one to measure (--concept)")
    return found[0]


def _names(text: str | None) -> list[str] | None:
    """Names with commas between, or those in a file, one a line."""
    if text is None:
        return None
    try:
        lines = Path(text).read_text("utf-8").splitlines() if Path(text).is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{text}: cannot be read as names, one a line ({error})") from error
    return [name for line in lines if (name := " ".join(line.split()))]
