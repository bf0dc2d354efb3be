"""What a model can do decides how it is measured and attacked: the one place that tells modalities apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.eval.evaluator import Evaluator

if TYPE_CHECKING:
    from oubliette.audit.suite import Suite
    from oubliette.data.questions import QA
    from oubliette.eval.sample_store import How
    from oubliette.workflows.request import Request

__all__ = ["ANSWERS", "PICTURES", "Modality", "modality_of"]


class Modality(Protocol):
    """What models make, and what follows from it."""

    #: What they make: "pictures".
    noun: str
    #: What a model must be able to do, as the names of its methods.
    capability: tuple[str, ...]
    #: The suite that an audit runs where none is named.
    suite: str

    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """What measures: from what is asked for, else what the record of the `opened` model names."""
        ...

    def driver(self, asked: Request, evaluator: Evaluator, suite: Suite, frozen: list[str]) -> Any | None:
        """An audit's attacks; None for those that `make_context` makes."""
        ...


class _Pictures:
    """Models that draw."""

    noun = "pictures"
    capability: tuple[str, ...] = ("draw",)
    suite = "quick"

    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """Judges of pictures on the concepts named, or those of the record."""
        from oubliette.data.concept import Concept
        from oubliette.data.concepts import concepts_of
        from oubliette.eval.pictures.evaluator import PictureEvaluator, require_drawing

        for name in ("forget", "retain", "other"):
            if getattr(asked, name) is not None:
                raise UserError(
                    f"--{name} {getattr(asked, name)}: names rows for a model that answers, and "
                    f"{opened.source} draws; name a concept (--concept)"
                )
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

    def driver(self, asked: Request, evaluator: Evaluator, suite: Suite, frozen: list[str]) -> Any | None:
        """None: the attack room's own."""
        return None


class _Answers:
    """Models that answer."""

    noun = "answers"
    capability: tuple[str, ...] = ("respond", "encode")
    suite = "answers"

    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """A judge of answers on the rows named, or those of the record."""
        from oubliette.eval.text.answer_plan import AnswerSets
        from oubliette.eval.text.evaluator import AnswerEvaluator

        for name in ("concept", "anchor", "kind", "prompts_csv", "novel"):
            if getattr(asked, name) is not None:
                raise UserError(
                    f"{opened.source}: is a model that answers; what it was to forget are rows (--forget), "
                    f"not a {name.replace('_', ' ')}"
                )
        if asked.judges:
            raise UserError(
                f"{opened.source}: is a model that answers, and judges that are named look at pictures; "
                "leave --judge out"
            )
        if isinstance(before.kind, str) and not all(hasattr(before, name) for name in self.capability):
            raise UserError(f"{before.source}: does not answer, and {opened.source} does; name its base")
        forget = _path_of(asked, opened, "forget")
        rows = {name: _rows(_path_of(asked, opened, name)) for name in ("forget", "retain", "other")}
        if forget is None:
            raise UserError(
                f"{opened.source}: has no record of what was to be forgotten; name the rows (--forget)"
            )
        return AnswerEvaluator(before, AnswerSets(Path(forget).stem, **rows))

    def driver(self, asked: Request, evaluator: Evaluator, suite: Suite, frozen: list[str]) -> Any | None:
        """Fine-tuning on rows that the audit does not ask: an attacker's own, else the sets' own."""
        from oubliette.audit.answer_runner import AnswerAttackRunner
        from oubliette.audit.setup import asked_prompts
        from oubliette.eval.text.evaluator import AnswerEvaluator

        assert isinstance(evaluator, AnswerEvaluator)
        sets = evaluator.sets
        return AnswerAttackRunner(
            _rows(asked.data) or sets.forget,
            _rows(asked.benign) or [*sets.other, *sets.retain],
            avoid=asked_prompts(suite, evaluator, suite.pictures, asked.seed),
            frozen=frozen,
            seed=asked.seed,
            paths={
                name: None if path is None else str(path)
                for name, path in (("concept", asked.data), ("benign", asked.benign))
            },
        )


PICTURES, ANSWERS = _Pictures(), _Answers()
_ALL: tuple[Modality, ...] = (PICTURES, ANSWERS)


def modality_of(model: Any) -> Modality:
    """The modality of an opened model, by what it can do; UserError for one that can do nothing known."""
    for modality in _ALL:
        if all(hasattr(model, name) for name in modality.capability):
            return modality
    raise UserError(f"{model.source}: neither draws nor answers, so there is nothing to measure")


def _path_of(asked: Request, opened: Any, name: str) -> Path | str | None:
    """The file of a set as it is named, else as the record of the model has it."""
    given: Path | str | None = getattr(asked, name)
    if given is not None:
        return given
    source = Path(str(opened.source))
    recipe = read_manifest(source).get("recipe", {}) if source.is_dir() else {}
    recorded = recipe.get(name)
    if recorded is not None and not Path(recorded).is_file():
        raise UserError(
            f"{opened.source}: its record names {recorded} as what it was to {name}, and that is not there; "
            f"name it (--{name})"
        )
    return recorded


def _rows(path: Path | str | None) -> list[QA]:
    from oubliette.data.questions import read_questions

    return [] if path is None else read_questions(path)
