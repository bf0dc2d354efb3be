"""Prompt banks: sentences around a concept, the same sentences with its anchor, and sentences about the rest.

A part of every bank is *withheld*: no eraser is given it, so that generalisation beyond the training
prompts can be measured ("in-set" against "withheld").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np

from oubliette.core.errors import UserError, suggest
from oubliette.core.registry import Registry
from oubliette.data.concept import KINDS, Concept, kinds
from oubliette.data.text import check_text
from oubliette.data.words import SLOT, fill, pattern, slotted, with_article

if TYPE_CHECKING:
    import torch

    from oubliette.world.world import World

SPLITS = ("in-set", "withheld")
Rng = Union[np.random.Generator, "torch.Generator", int]
_SECTIONS = ("templates", "withheld", "phrases", "withheld phrases", "retain")


class PromptBank(Protocol):
    """What methods and evaluations ask of a bank; the same arguments give the same prompts."""

    @property
    def name(self) -> str:
        """What the bank is called, or its file."""
        ...

    def words(self, concept: Concept) -> list[str]:
        """Every word that the bank's in-set prompts may use for the concept."""
        ...

    def pairs(self, concept: Concept, n: int, rng: Rng) -> list[tuple[str, str]]:
        """`n` training pairs (prompt with the concept, the same prompt with its anchor), in-set only."""
        ...

    def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
        """`n` prompts that name the concept, from what erasers are given or from what is withheld."""
        ...

    def anchor_evaluation(self, concept: Concept, n: int, seed: int = 0, split: str = "in-set") -> list[str]:
        """`n` prompts with the anchor in the concept's place: what a judge's floor is taken on."""
        ...

    def retain(self, concept: Concept | Sequence[Concept], n: int, rng: Rng) -> list[str]:
        """`n` in-set prompts about other things: none names the concept(s) or a synonym."""
        ...


@dataclass(frozen=True)
class Line:
    """A sentence of a bank and where it stands, for messages."""

    text: str
    where: str


@dataclass(frozen=True)
class Sentences:
    """One file's sentences by section; `phrases` ("{p}, in the style of {c}") put a style to a sentence."""

    where: str
    sections: dict[str, tuple[Line, ...]] = field(default_factory=dict)

    def get(self, section: str) -> tuple[Line, ...]:
        """The section's lines; UserError if there are none."""
        lines = self.sections.get(section, ())
        if not lines:
            raise UserError(f"{self.where}: has no sentences in a [{section}] part")
        return lines


@dataclass(frozen=True)
class TextBank:
    """A bank read from text files: sentences for each kind of concept, and plain captions to retain."""

    name: str
    sentences: dict[str, Sentences]
    captions: tuple[str, ...]

    def words(self, concept: Concept) -> list[str]:
        """The concept's name and synonyms."""
        return list(concept.words)

    def pairs(self, concept: Concept, n: int, rng: Rng) -> list[tuple[str, str]]:
        """Training pairs: object and person take the anchor's place, a style is added to the sentence.

        Of the style pairs one in three ends in "in the style of", two in three begin with "in ...'s style"
        (as Concept Ablation and DoCo make them). Synonyms take turns with the name. UserError for a user's
        caption that has neither a slot nor the anchor's word.
        """
        return self._make(concept, n, as_generator(rng), "in-set")

    def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
        """Prompts that name the concept; withheld ones are made of sentences and phrases no eraser is
        given.
        """
        rng = np.random.default_rng([seed, 1, _split_number(split)])
        return [target for target, _ in self._make(concept, n, rng, split)]

    def anchor_evaluation(self, concept: Concept, n: int, seed: int = 0, split: str = "in-set") -> list[str]:
        """The same sentences as `evaluation` gives for this seed and split, with the anchor."""
        rng = np.random.default_rng([seed, 1, _split_number(split)])
        return [anchor for _, anchor in self._make(concept, n, rng, split)]

    def retain(self, concept: Concept | Sequence[Concept], n: int, rng: Rng) -> list[str]:
        """Plain captions that name none of the concepts; UserError if none is left."""
        concepts = [concept] if isinstance(concept, Concept) else list(concept)
        named = pattern(word for one in concepts for word in one.words)
        kept = [caption for caption in self.captions if not named.search(caption)]
        if not kept:
            raise UserError(f"prompt bank {self.name!r}: every caption to retain names {concepts[0].name!r}")
        return _in_turn(kept, n, as_generator(rng))

    def _make(self, concept: Concept, n: int, rng: np.random.Generator, split: str) -> list[tuple[str, str]]:
        if concept.kind not in self.sentences:
            raise UserError(
                f"prompt bank {self.name!r}: has no sentences for a {concept.kind}, as {concept.name!r} is"
            )
        sentences = self.sentences[concept.kind]
        lines = _in_turn(sentences.get("templates" if split == "in-set" else "withheld"), n, rng)
        if concept.kind != "style":
            return [
                _replaced(line, concept, concept.words[i % len(concept.words)])
                for i, line in enumerate(lines)
            ]
        phrases = _in_turn(sentences.get("phrases" if split == "in-set" else "withheld phrases"), n, rng)
        return [
            _styled(line, phrase, concept, concept.words[i % len(concept.words)])
            for i, (line, phrase) in enumerate(zip(lines, phrases, strict=True))
        ]


@dataclass(frozen=True)
class WorldBank:
    """The embedded picture world's own caption grammar, with its own withheld templates and synonyms."""

    name: str = "world"

    def words(self, concept: Concept) -> list[str]:
        """The concept's name and synonyms, and the world's own open words for it."""
        from oubliette.world.facts import PICTURE

        return open_words(PICTURE, concept)

    def pairs(self, concept: Concept, n: int, rng: Rng) -> list[tuple[str, str]]:
        """Training pairs of the world's in-set captions."""
        from oubliette.world import captions

        return captions.erase_pairs(concept.name, concept.anchor, concept.kind, n, _seed(rng))

    def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
        """Captions that name the concept; withheld ones use templates and synonyms that erasers never see."""
        from oubliette.world import captions

        _split_number(split)
        return captions.evaluation_prompts(concept.name, concept.kind, n, split, seed)

    def anchor_evaluation(self, concept: Concept, n: int, seed: int = 0, split: str = "in-set") -> list[str]:
        """Captions with the anchor in the concept's place; the world has them for the in-set part alone."""
        from oubliette.world import captions

        if _split_number(split):
            raise UserError("prompt bank 'world': anchor prompts are in-set alone")
        return captions.anchor_prompts(concept.anchor, concept.kind, n, seed, concept=concept.name)

    def retain(self, concept: Concept | Sequence[Concept], n: int, rng: Rng) -> list[str]:
        """Captions about the rest of the known world."""
        from oubliette.world import captions

        concepts = [concept] if isinstance(concept, Concept) else list(concept)
        return captions.retain_prompts([word for one in concepts for word in one.words], n, _seed(rng))


def general_bank() -> TextBank:
    """The shipped sentences, for models of no known world."""
    folder = files("oubliette.data") / "banks"
    texts = {kind: (folder / f"{kind}.txt").read_text(encoding="utf-8") for kind in KINDS}
    sentences = {kind: _parse(text, f"banks/{kind}.txt") for kind, text in texts.items()}
    return TextBank("general", sentences, _plain_captions())


BANKS: Registry[Callable[[], PromptBank]] = Registry(
    "prompt bank", {"general": general_bank, "world": WorldBank}
)
"""What makes each bank, by name; a world names its own (`oubliette.world.world.World.bank`)."""


def load_bank(name: str | Path) -> PromptBank:
    """A bank by name ("general" for real models, "world" for those of the picture world) or from the user's
    own file.
    """
    if name in BANKS:
        return BANKS.get(str(name))()
    if Path(name).is_file():
        return bank_from_file(name)
    raise UserError(f"no prompt bank {str(name)!r}, and no such file; {suggest(str(name), BANKS)}")


def open_words(world: World, concept: Concept) -> list[str]:
    """The words for a concept that an eraser or a filter may know: its name, its synonyms, the world's open
    words.
    """
    return list(dict.fromkeys((*concept.words, *world.fact(concept.kind, concept.name).words)))


def bank_from_file(path: Path | str) -> TextBank:
    """A bank of the user's own sentences: a text file with one sentence a line, for concepts of any kind.

    A sentence has a slot {} for the concept or its anchor, or holds the anchor's word, which is then
    replaced; for a style neither is needed. Lines that begin with # are comments. The lines [withheld],
    [phrases], [withheld phrases] and [retain] begin those parts; what is not there comes from the shipped
    bank, except withheld sentences.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from error
    own = _parse(text, str(path))
    own.get("templates")
    shipped = _parse(
        (files("oubliette.data") / "banks" / "style.txt").read_text(encoding="utf-8"), "banks/style.txt"
    )
    phrases = {part: own.sections.get(part) or shipped.get(part) for part in ("phrases", "withheld phrases")}
    sentences = Sentences(str(path), {**own.sections, **phrases})
    retained = own.sections.get("retain")
    captions = tuple(line.text for line in retained) if retained else _plain_captions()
    return TextBank(str(path), dict.fromkeys(kinds(), sentences), captions)


def as_generator(rng: Rng) -> np.random.Generator:
    """A numpy generator from one, from a seed, or from a torch generator (which is advanced by one draw)."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)):
        return np.random.default_rng(int(rng))
    import torch

    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng, device=rng.device)))


def _parse(text: str, where: str) -> Sentences:
    sections: dict[str, list[Line]] = {}
    section = "templates"
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            if section not in _SECTIONS:
                raise UserError(f"{where}, line {number}: no part {section!r}; {suggest(section, _SECTIONS)}")
            continue
        if section.endswith("phrases") and ("{p}" not in line or "{c}" not in line):
            raise UserError(
                f"{where}, line {number}: a phrase needs {{p}} (the prompt) and {{c}} (the concept)"
            )
        check_text(line, f"{where}, line {number}: the sentence")
        sections.setdefault(section, []).append(Line(line, f"{where}, line {number}"))
    return Sentences(where, {name: tuple(lines) for name, lines in sections.items()})


def _replaced(line: Line, concept: Concept, word: str) -> tuple[str, str]:
    template = line.text
    if SLOT not in template:
        found = slotted(template, concept.anchor)
        if found is None:
            raise UserError(
                f"{line.where}: has neither a slot {{}} nor the anchor {concept.anchor!r}: {template!r}"
            )
        template = found
        return fill(template, word), line.text
    anchor = with_article(concept.anchor) if concept.kind == "person" else concept.anchor
    return fill(template, word), fill(template, anchor) if anchor else ""


def _styled(line: Line, phrase: Line, concept: Concept, word: str) -> tuple[str, str]:
    prompt = fill(line.text, concept.anchor or "picture")
    return phrase.text.replace("{p}", prompt).replace("{c}", word), prompt if concept.anchor else ""


def _in_turn(items: Sequence[Any], n: int, rng: np.random.Generator) -> list[Any]:
    """`n` of the items in random order, each as often as the others (give or take one)."""
    order: list[int] = []
    while len(order) < n:
        order.extend(rng.permutation(len(items)).tolist())
    return [items[index] for index in order[:n]]


def _plain_captions() -> tuple[str, ...]:
    text = (files("oubliette.data") / "banks" / "retain.txt").read_text(encoding="utf-8")
    return tuple(line.text for line in _parse(text, "banks/retain.txt").get("templates"))


def _split_number(split: str) -> int:
    if split not in SPLITS:
        raise UserError(f"no prompt split {split!r}; {suggest(split, SPLITS)}")
    return SPLITS.index(split)


def _seed(rng: Rng) -> int:
    return int(rng) if isinstance(rng, (int, np.integer)) else int(as_generator(rng).integers(2**31))
