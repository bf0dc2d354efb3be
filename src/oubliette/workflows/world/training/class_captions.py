"""Captions for pictures that have a class name and nothing more, and the prompt bank that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oubliette.core.errors import UserError, suggest
from oubliette.data.words import fill

TEMPLATES = (
    "a photo of a {}",
    "{}",
    "a {}",
    "a picture of a {}",
    "an image of a {}",
    "a small photo of a {}",
    "a photo showing a {}",
    "this is a {}",
    "there is a {}",
    "a good photo of a {}",
    "a {} in a photo",
    "one {}",
)
#: The base model learns these too; the bank keeps them from what erasers are given.
WITHHELD = (
    "look, a {}",
    "here we see a {}",
    "a snapshot of a {}",
    "a {} in the picture",
    "a depiction of a {}",
    "somebody photographed a {}",
)
PLAIN = ("a photo", "a picture", "an image", "photo")
#: The broader word for everything, where no groups are given.
BROADER = "object"
#: How often a caption names the class, or a broader word; the rest are plain.
NAMED, GROUPED = 0.7, 0.2


@dataclass(frozen=True)
class ClassCaptions:
    """The language of a labelled set: its class names and their broader words, in templates."""

    classes: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, classes: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None) -> ClassCaptions:
        """`groups` maps a broader word to its classes; without it "object" is the broader word for all.

        Raises UserError for a class that is not there, and for a broader word that is itself a class.
        """
        found = {word: tuple(names) for word, names in (groups or {BROADER: classes}).items()}
        for word, names in found.items():
            if word in classes:
                raise UserError(f"groups: the broader word {word!r} is itself a class; choose another")
            for name in names:
                if name not in classes:
                    raise UserError(f"groups: {word!r} holds {name!r}; {suggest(name, list(classes))}")
        return cls(tuple(classes), found)

    def broader(self, name: str) -> list[str]:
        """The broader words of a class."""
        return [word for word, names in self.groups.items() if name in names]

    def caption(self, name: str, rng: np.random.Generator) -> str:
        """A caption of a picture of `name`: the class in 70 %, a broader word in 20 %, plain otherwise."""
        words, dice = self.broader(name), float(rng.random())
        if dice >= NAMED + GROUPED or (dice >= NAMED and not words):
            return PLAIN[rng.integers(len(PLAIN))]
        templates = (*TEMPLATES, *WITHHELD)
        word = name if dice < NAMED else words[rng.integers(len(words))]
        return fill(templates[rng.integers(len(templates))], word)

    def everything(self) -> list[str]:
        """Every caption there can be: what the tokenizer is learned on."""
        words = (*self.classes, *self.groups)
        return [fill(template, word) for word in words for template in (*TEMPLATES, *WITHHELD)] + list(PLAIN)

    def bank(self) -> str:
        """A prompt bank as `data.prompts.bank_from_file` reads it: templates, withheld ones, and captions to
        retain, which are in-set."""
        words = (*self.classes, *self.groups)
        kept = [fill(template, word) for word in words for template in TEMPLATES] + list(PLAIN)
        return "\n".join(["[templates]", *TEMPLATES, "", "[withheld]", *WITHHELD, "", "[retain]", *kept, ""])


def parse_groups(texts: Sequence[str]) -> dict[str, list[str]] | None:
    """{"animal": ["cat", "dog"]} from ["animal=cat,dog"]; None where nothing is given."""
    found: dict[str, list[str]] = {}
    for text in texts:
        word, equals, names = text.partition("=")
        classes = [name.strip() for name in names.split(",") if name.strip()]
        if not equals or not word.strip() or not classes:
            raise UserError(f"group {text!r}: expected a broader word and its classes, as in animal=cat,dog")
        found[word.strip()] = classes
    return found or None
