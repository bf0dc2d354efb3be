"""UnlearnCanvas on a folder of answers that somebody else has drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.judge import Judge, open_judge
from oubliette.eval.pictures.fid_reference import batches_of, fid_against, picture_files
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.protocols.canvas import Batch, Canvas, check_grid, judge_grid, pair_judges

#: What a folder must look like; the first form is the benchmark's own.
LAYOUTS = "STYLE_OBJECT_seedN.jpg, or STYLE/OBJECT/N.jpg"
_FLAT = re.compile(r"(?P<style>.+)_(?P<object>[^_]+)_seed_?(?P<seed>\d+)")
_NUMBER = re.compile(r"(?:seed_?)?(?P<seed>\d+)")


@dataclass(frozen=True)
class Answer:
    """One picture of an answer set: what it was to show, its seed, its file."""

    style: str
    object: str
    seed: int
    path: Path


def read_answers(
    folder: Path | str, *, styles: Sequence[str] | None = None, objects: Sequence[str] | None = None
) -> list[Answer]:
    """The pictures of an answer set, sorted by style, object and seed.

    Files are STYLE_OBJECT_seedN.jpg, as the benchmark's samplers write them, in the folder or below it, or
    STYLE/OBJECT/N.jpg (any format that PIL reads). Underscores in names are blanks. `styles` and `objects`
    choose a part; by default it is all there is. Raises UserError for a file with another name, for two of
    one cell and seed, and where a cell lacks a seed that another one has.
    """
    folder = Path(folder)
    found: dict[tuple[str, str, int], Answer] = {}
    wanted = [
        None if names is None else {_plain(name): name for name in names} for names in (styles, objects)
    ]
    for path in picture_files(folder):
        one = _answer(path, folder)
        style, thing = (
            name if own is None else own.get(_plain(name))
            for name, own in zip((one.style, one.object), wanted, strict=True)
        )
        if style is None or thing is None:
            continue
        key = (style, thing, one.seed)
        if key in found:
            raise UserError(
                f"{path}: a second picture of {thing} in {style}, seed {one.seed}, beside {found[key].path}"
            )
        found[key] = Answer(style, thing, one.seed, path)
    all_styles = list(styles) if styles is not None else sorted({style for style, _, _ in found})
    all_objects = list(objects) if objects is not None else sorted({thing for _, thing, _ in found})
    seeds = sorted({seed for *_, seed in found})
    cells = [(style, thing, seed) for style in all_styles for thing in all_objects for seed in seeds]
    missing = [cell for cell in cells if cell not in found]
    if missing or not cells:
        lacks = "no answer of the styles and objects asked for"
        if missing:
            first = "{1} in {0}, seed {2}".format(*missing[0])
            lacks = f"{len(missing)} of {len(cells)} answers missing, the first {first}"
        raise UserError(f"{folder}: {lacks}; expected {LAYOUTS} for each style, object and seed")
    return [found[cell] for cell in cells]


def canvas_of_folder(
    folder: Path | str,
    concept: Concept,
    judges: Sequence[Judge | str],
    *,
    styles: Sequence[str] | None = None,
    objects: Sequence[str] | None = None,
    reference: Path | str | None = None,
    extractor: Extractor | None = None,
) -> Canvas:
    """The protocol's figures on a folder of answers (see `read_answers`); options as in `canvas`.

    The benchmark's own classifiers, saved as transformers folders, are two judges: one knows its styles, one
    its objects. Raises UserError as `canvas` and `read_answers` do.
    """
    answers = read_answers(folder, styles=styles, objects=objects)
    grid = {
        "style": list(dict.fromkeys(one.style for one in answers)),
        "object": list(dict.fromkeys(one.object for one in answers)),
    }
    names = {_plain(name): name for name in grid.get(concept.kind, ())}
    own = Concept(
        names.get(_plain(concept.name), concept.name), concept.anchor, concept.kind, concept.synonyms
    )
    check_grid(own, grid)
    opened = [open_judge(judge) if isinstance(judge, str) else judge for judge in judges]
    pairs = pair_judges(opened, grid)

    def batches() -> Iterable[Batch]:
        for style in grid["style"]:
            rows = [one for one in answers if one.style == style]
            for indices, pictures in batches_of([one.path for one in rows]):
                yield style, [rows[index].object for index in indices], pictures

    figures = judge_grid(own, pairs, batches())
    shown = (pictures for _, _, pictures in batches())
    fid, notes = fid_against(reference, extractor, opened, shown, len(answers))
    return Canvas(
        source=str(folder),
        fingerprint=None,
        concept=own.name,
        kind=own.kind,
        styles=grid["style"],
        objects=grid["object"],
        seeds=sorted({one.seed for one in answers}),
        prompt=None,
        steps=None,
        guidance=None,
        figures=figures,
        fid=fid,
        notes=notes,
    )


def _answer(path: Path, folder: Path) -> Answer:
    flat = _FLAT.fullmatch(path.stem)
    if flat is not None:
        return Answer(_blanks(flat["style"]), _blanks(flat["object"]), int(flat["seed"]), path)
    above, number = path.relative_to(folder).parts[:-1], _NUMBER.fullmatch(path.stem)
    if len(above) < 2 or number is None:
        raise UserError(f"{path}: says no style, object and seed; expected {LAYOUTS}")
    return Answer(_blanks(above[-2]), _blanks(above[-1]), int(number["seed"]), path)


def _blanks(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _plain(name: str) -> str:
    return _blanks(name).casefold()
