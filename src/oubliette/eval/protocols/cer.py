"""SPM's CLIP error rate: how often CLIP no longer tells the concept in its own pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.core.errors import UserError, suggest
from oubliette.core.json_io import read_json
from oubliette.data.concept import Concept
from oubliette.data.words import SLOT, fill, with_article
from oubliette.eval.judge import Judge, open_judge
from oubliette.eval.pictures.clip import clip_score
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.plan import seeds_for
from oubliette.eval.sample_store import Progress, SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Estimate, Rate, t_interval

FORMAT = "oubliette-cer/1"
#: What the concept's text is held against: the empty prompt (SPM's released default) or the anchor's.
EMPTY, ANCHOR = "empty", "anchor"
AGAINST = (EMPTY, ANCHOR)
#: The package's own templates, eight a kind; the published figures are over the 80 of ImageNet.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "object": (
        "a {}",
        "a picture of a {}",
        "an image of a {}",
        "a drawing of a {}",
        "there is a {}",
        "this is a {}",
        "a picture showing a {}",
        "a {}, centred",
    ),
    "style": (
        "{} style",
        "a {} picture",
        "a {} image",
        "a {} drawing",
        "a picture in {} style",
        "an image in {} style",
        "a drawing in {} style",
        "a picture, {}",
    ),
    "person": (
        "{}",
        "a picture of {}",
        "an image of {}",
        "a drawing of {}",
        "a portrait of {}",
        "the face of {}",
        "there is {}",
        "a picture showing {}",
    ),
}
OWN = "the package's own"


@dataclass(frozen=True)
class CerFigures:
    """One concept's CLIP error rate (high where it was erased, low where it was to stay) and CLIPScore."""

    concept: str
    kind: str
    templates: int
    cer: Rate
    score: Estimate


@dataclass(frozen=True)
class CerResult:
    """CLIP error rates of one model, with all that they depend on; those of two CLIPs cannot be compared."""

    model: str
    fingerprint: str
    clip: str
    clip_fingerprint: str
    against: str
    templates: str
    each: int
    figures: list[CerFigures]
    seed: int
    steps: int
    guidance: float
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it goes to JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> CerResult:
        """The result that `to_dict` wrote; UserError for anything else."""
        return read_json(cls, json.dumps(content), what="CER", version=FORMAT, expected="what to_dict writes")


def error_rate(pictures: np.ndarray, texts: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CLIPScore 2.5 max(cos, 0) with the text, (n,), and booleans (n,): it does not beat the anchor's score.

    Takes unit-length embeddings, (n, d) each. Two scores cut off at zero are equal, and count as errors. CER
    is the mean of the booleans (Lyu et al. 2024, arXiv:2312.16145).
    """
    score = clip_score(pictures, texts)
    return score, ~(score > clip_score(pictures, anchors))


def cer(
    model: Any,
    concepts: Sequence[Concept],
    judge: Judge | str | None = None,
    *,
    templates: Path | str | None = None,
    each: int = 10,
    against: str = EMPTY,
    seed: int = 0,
    sampling: Sampling | None = None,
    cache: SampleStore | None = None,
    progress: Progress | None = None,
) -> CerResult:
    """SPM's CER of each concept on `each` pictures a template of the concept's name.

    `judge` is a CLIP judge or its name, by default that of the model's world. Against "empty" the concept's
    name is held against the empty text, as SPM's released script does unless told otherwise; against "anchor"
    the picture's own prompt is held against the same template with the anchor in it (for a style, against the
    anchor alone). `templates` is a file of the user's own, one a line with a slot {}. Raises UserError for a
    judge that is no CLIP or does not know a concept, and for a bad template.
    """
    if against not in AGAINST:
        raise UserError(f"CER: nothing to compare with is called '{against}'; {suggest(against, AGAINST)}")
    if each < 1:
        raise UserError(f"CER: needs at least 1 picture a template; found {each}")
    if not concepts:
        raise UserError("CER: no concept was given; name one")
    opened = open_judge(judge or "clip", model) if judge is None or isinstance(judge, str) else judge
    if not isinstance(opened, ClipJudge):
        raise UserError(f"CER: {opened.name} is no CLIP; give one as clip:MODEL")
    unknown = [concept.name for concept in concepts if not opened.covers(concept)]
    if unknown:
        raise UserError(f"CER: {opened.name} has no words for {unknown[0]!r}; give another CLIP (clip:MODEL)")
    lines = None if templates is None else read_templates(templates)
    sampling = sampling or Sampling()
    painter = CachedSampler("model", model, SampleStore() if cache is None else cache, sampling)
    rows = {concept: _rows(concept, lines or TEMPLATES[concept.kind], each, seed) for concept in concepts}
    every = [row for own in rows.values() for row in own]
    painter.fill([prompt for prompt, _, _ in every], [number for *_, number in every], progress=progress)
    return CerResult(
        model=str(model.source),
        fingerprint=painter.fingerprint,
        clip=opened.clip.name,
        clip_fingerprint=opened.fingerprint,
        against=against,
        templates=OWN if templates is None else Path(templates).name,
        each=each,
        figures=[_figures(concept, own, painter, opened, against, each) for concept, own in rows.items()],
        seed=seed,
        steps=sampling.steps,
        guidance=sampling.guidance,
    )


def read_templates(path: Path | str) -> tuple[str, ...]:
    """A file of templates, one a line with a slot {}; lines that begin with # and blank ones are skipped.

    Raises UserError, naming file and line, for one without a slot, and for a file without templates.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from error
    found = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if SLOT not in line:
            raise UserError(f"{path}, line {number}: has no slot {{}} for the concept: {line[:80]!r}")
        found.append(line)
    if not found:
        raise UserError(f"{path}: holds no templates; expected one a line, as in 'a picture of a {{}}'")
    return tuple(dict.fromkeys(found))


def _rows(concept: Concept, templates: Sequence[str], each: int, seed: int) -> list[tuple[str, str, int]]:
    """Prompt, the same with the anchor, and seed, `each` a template; more extend fewer."""
    rows = []
    for template in templates:
        prompt, plain = fill(template, concept.name), _with_anchor(template, concept)
        seeds = seeds_for(f"cer/{concept.kind}/{concept.name}/{template}", each, seed)
        rows += [(prompt, plain, number) for number in seeds]
    return rows


def _with_anchor(template: str, concept: Concept) -> str:
    if not concept.anchor:
        return ""
    if concept.kind == "style":
        return with_article(concept.anchor)
    return fill(template, with_article(concept.anchor) if concept.kind == "person" else concept.anchor)


def _figures(
    concept: Concept,
    rows: Sequence[tuple[str, str, int]],
    painter: CachedSampler,
    judge: ClipJudge,
    against: str,
    each: int,
) -> CerFigures:
    seen = judge.clip.encode_pictures(
        painter.recall([prompt for prompt, _, _ in rows], [number for *_, number in rows])
    )
    if against == EMPTY:
        name, nothing = judge.clip.encode_texts([judge.word(concept), ""])
        texts, anchors = np.tile(name, (len(rows), 1)), np.tile(nothing, (len(rows), 1))
    else:
        texts = judge.clip.encode_texts([prompt for prompt, _, _ in rows])
        anchors = judge.clip.encode_texts([plain for _, plain, _ in rows])
    score, missed = error_rate(seen, texts, anchors)
    return CerFigures(concept.name, concept.kind, len(rows) // each, Rate.mean(missed), t_interval(score))
