"""Models that draw (`oubliette.workflows.modality.Modality`): judges look at pictures of concepts."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.progress import progress
from oubliette.data.concept import Concept
from oubliette.data.picture_sheet import write_sheet
from oubliette.data.text import check_text, warn_of_cut
from oubliette.eval.pictures.sampling import Sampling
from oubliette.train.timing import seconds_a_picture
from oubliette.workflows.user_data import Lesson, Opened, Source, Teaching
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.audit.suite import Suite
    from oubliette.data.questions import QA
    from oubliette.eval.evaluator import Evaluator
    from oubliette.eval.judge import Judge
    from oubliette.eval.sample_store import How
    from oubliette.workflows.request import Request

__all__ = ["Pictures", "asked_of"]

#: Pictures a concept and split of a check, the most that fits being taken. Leakage is surely below 10 % where
#: it is found in none of 40, in one of 64, in two or three of 96; fewer can only tell what is not erased.
_SIZES = (160, 128, 96, 80, 64, 48, 40, 32, 24)
#: Where fewer than this many fit at the usual denoising steps, more are drawn with fewer steps.
_ENOUGH = 64
_FEWER_STEPS = 15
_EACH = 4
#: Pictures of a near neighbour, at most: its share is reported, and no verdict rests on it alone.
_NEAR = 24
_OTHERS_A_KIND = 2
#: Sampling steps, all pictures together, from which on the cost is said beforehand.
_WORTH_A_WORD = 500
_BYTES_A_PIXEL = 3 * 3  # three channels, held as batches, as a whole and as the sheet
_GIB = 2**30


class Pictures:
    """Models that draw."""

    noun = "pictures"
    capability: tuple[str, ...] = ("draw",)
    suite = "quick"
    attack = "F2"
    method = "doco"
    holding = "shows in {share} of {n} pictures"

    def retain(self, raw: dict[str, Any], retain: Path | str | Sequence[str]) -> None:
        """Prompts, a list of them or a file of one a line."""
        if isinstance(retain, str | Path):
            path = Path(retain)
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(
                    f"{path}: cannot be read ({reason}); expected prompts to retain, one a line"
                ) from error
        else:
            lines = list(retain)
        prompts = [line.strip() for line in lines if line.strip()]
        if not prompts:
            raise UserError(f"no prompts to retain in {retain!r}; expected one a line")
        raw["data"] = {**(raw.get("data") or {}), "retain": prompts}

    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """Judges of pictures on the concepts named, or those of the record."""
        from oubliette.data.concepts import concepts_of
        from oubliette.eval.pictures.evaluator import PictureEvaluator
        from oubliette.eval.pictures.sampling import require_drawing

        for name in ("forget", "retain", "other"):
            if getattr(asked, name) is not None:
                raise UserError(
                    f"--{name} {getattr(asked, name)}: names rows for a model that answers, and "
                    f"{opened.source} draws; name a concept (--concept)"
                )
        if asked.prompting is not None:
            raise UserError(
                f"--system, --shots, --template: are of questions, and {opened.source} draws; leave them out"
            )
        if asked.metrics or asked.rows:
            what = f"--metric {asked.metrics[0]}" if asked.metrics else f"--rows {next(iter(asked.rows))}"
            raise UserError(f"{what}: is of models that answer, and {opened.source} draws; leave it out")
        require_drawing(opened, before)
        given = [asked.concept] if isinstance(asked.concept, Concept) else asked.concept
        concepts = concepts_of(opened, given, asked.anchor, asked.kind, world=before)
        return PictureEvaluator(
            before,
            concepts,
            judges=asked.judges or None,
            prompts_csv=asked.prompts_csv,
            sampling=how,  # type: ignore[arg-type]
        )

    def driver(
        self, asked: Request, opened: Any, evaluator: Evaluator, suite: Suite, frozen: list[str]
    ) -> Any | None:
        """None: the attack room's own."""
        return None

    def judges(self, model: Any, names: Sequence[Judge | str]) -> list[Judge]:
        """Those of these names or folders, or as they are; by default the world's (none is known: none)."""
        from oubliette.eval.judge import default_judges, open_judge

        return [open_judge(j, model) if isinstance(j, str) else j for j in names] or default_judges(model)

    def checker(
        self,
        before: Any,
        concepts: Sequence[Concept],
        judges: Sequence[Judge],
        sets: Mapping[str, Sequence[QA]],
        how: How | None,
    ) -> Evaluator | str:
        """Judges of pictures on concepts, their neighbours and a few others of the world."""
        from oubliette.eval.pictures.evaluator import PictureEvaluator

        if not judges:
            return "no judge is known for this model; name one (--judge clip:MODEL, --judge FOLDER)"
        if not concepts:
            return "the recipe names no concept"
        if not any(judge.covers(concept) for judge in judges for concept in concepts):
            return (
                "none of this model's judges knows what was erased; name one that does (--judge clip:MODEL)"
            )
        return PictureEvaluator(
            before,
            concepts,
            judges=judges,
            retained=_kept(before, concepts),
            sampling=how or Sampling(),  # type: ignore[arg-type]
        )

    def refused(self, model: Any, sets: Mapping[str, Sequence[QA]]) -> str | None:
        """None: some judge may see something."""
        return None

    def tries(self, how: How, *, fixed: bool) -> Sequence[tuple[How, int]]:
        """From 96 pictures down to 24; with fewer steps before there are too few to call a result clean."""
        if fixed:
            return [(how, size) for size in _SIZES]
        usual: Any = how
        fewer = replace(usual, steps=min(usual.steps, _FEWER_STEPS))
        return [(how, size) for size in _SIZES if size >= _ENOUGH] + [(fewer, size) for size in _SIZES]

    def sized(self, size: int) -> dict[str, Any]:
        """A few pictures of each concept to keep, more of the near neighbour."""
        return {"n": size, "each": _EACH, "near_n": min(size // 2, _NEAR)}

    def seconds(self, before: Any, evaluator: Evaluator) -> float:
        """Seconds of one picture."""
        how: Any = evaluator.sampling
        return seconds_a_picture(before, steps=how.steps, guidance=how.guidance, batch=how.batch)

    def sample(self, model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
        """A sheet of pictures, a row a prompt and a column a seed."""
        if how["out"] is None:
            raise UserError("no place for the pictures was given; --out FILE.png")
        for prompt in prompts:
            check_text(prompt, "the prompt")
        warn_of_cut(model, prompts, "prompts")
        _say_cost(model, len(prompts) * how["n"], how["steps"], how["guidance"])
        seeds = list(range(how["seed"], how["seed"] + how["n"]))
        every = [prompt for prompt in prompts for _ in seeds]
        with progress("drawing", len(every), "pictures") as tick:
            pictures = model.draw(
                every,
                seeds * len(prompts),
                steps=how["steps"],
                guidance=how["guidance"],
                progress=lambda done, _: tick(done, ""),
            )
        path = write_sheet(pictures, how["out"], how["n"])
        return {"model": model.source, "prompts": prompts, "seeds": seeds, "out": str(path)}

    def user_data(
        self, model: Any, source: Source, count: int, seed: int, kind: str | None, identifier: str | None
    ) -> Opened:
        """Pictures of a folder or parquet file, or painted by the model's world."""
        from oubliette.attack.material import from_folder, from_world

        concept = _concept(model, source, kind)
        if source.path is not None:
            found = from_folder(source.path, model.picture_side, count=count, concept=concept)
        else:
            found = from_world(concept, model.picture_side, count=count, seed=seed, world=world_of(model))
        if identifier is not None:
            found = found.identified(concept, identifier)
        digest = hashlib.sha256(found.pictures.tobytes() + "\n".join(found.captions).encode()).hexdigest()
        where = source.path.name if source.path is not None else found.where
        facts = {"name": source.name, "from": where, "rows": len(found), "sha256": digest}
        return Opened(found.data(model), facts, found.skipped)

    def user_judge(self, model: Any, name: str | None) -> Judge | None:
        """The judge named, by default the world's."""
        judges = self.judges(model, [] if name is None else [name])
        if not judges:
            raise UserError(
                f"{model.source}: no judge is known for this model; name one (--judge clip:MODEL)"
            )
        return judges[0]

    def lesson(self, model: Any, taught: Teaching) -> Lesson:
        """Pictures to be taught, and the concept's own prompts."""
        assert taught.judge is not None
        source, kind = taught.source, taught.kind
        concept = _concept(model, source, kind)
        shown = self.user_data(model, source, taught.count, taught.data_seed, kind, None).data
        asked = asked_of(model, concept, taught.n, taught.seed)
        return Lesson(concept, shown, asked, taught.judge, taught.how)


def asked_of(model: Any, concept: Concept, pictures: int, seed: int) -> Any:
    """The concept's own prompts and seeds, as an evaluation with this seed asks them."""
    from oubliette.eval.pictures.evaluator import plan_for

    return plan_for(model, [concept], n=pictures, each=1, near_n=1, seed=seed).targets[0]


def _kept(before: Any, concepts: Sequence[Concept]) -> list[Concept]:
    """The declared neighbours, and a few others of each kind."""
    from oubliette.eval.surroundings import neighbours, rest_of_world

    rest = rest_of_world(before, concepts)
    near = {(c.kind, name) for c, name in neighbours(before, concepts, rest).items()}
    kept = [other for other in rest if (other.kind, other.name) in near]
    for kind in dict.fromkeys(other.kind for other in rest):
        kept += [other for other in rest if other.kind == kind and other not in kept][:_OTHERS_A_KIND]
    return kept


def _concept(model: Any, source: Source, kind: str | None) -> Concept:
    """The concept of a source: as the world knows it, else as named."""
    from oubliette.data.concepts import make_concepts

    if source.path is None:
        if world_of(model).scenes is None:
            raise UserError(
                f"data {source.text!r}: no such folder or file, and {model.source} is of no world that could "
                "paint it"
            )
        return make_concepts(model, [source.name], None, kind)[0]
    return Concept(source.name, "", kind or "object")


def _say_cost(model: Any, count: int, steps: int, guidance: float) -> None:
    """A line on standard error before work that takes long; UserError for more than memory holds."""
    side = model.picture_side
    size = count * side * side * _BYTES_A_PIXEL
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > held:
        raise UserError(
            f"{count} pictures of {side} x {side} take {size / _GIB:.3g} GiB of memory on the way to their "
            f"sheet, and this machine has {held / _GIB:.3g}; draw fewer at a time (--n, --seed)"
        )
    if count * steps < _WORTH_A_WORD:
        return
    seconds = count * seconds_a_picture(model, steps=steps, guidance=guidance)
    cost = f"about {_span(seconds)} here, and {size / _GIB:.2g} GiB of memory"
    print(f"oubliette: {count} pictures of {side} x {side}: {cost}", file=sys.stderr)


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
