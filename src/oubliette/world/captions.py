"""The language of the picture world: a caption grammar with templates, synonyms, broader words and partial
captions.

A caption names any part of a scene: the subject (by its name, a synonym or a broader word), its colour, the
style, in
several word orders. Some templates and synonyms are *withheld*: the base model was trained on them, but
nothing that
an eraser is given contains them, so that generalisation beyond the training prompts can be measured.
"""

from __future__ import annotations

import re

import numpy as np

from oubliette.core.errors import UserError
from oubliette.world import facts
from oubliette.world.scene import Scene

Rng = np.random.Generator

#: Templates by what they mention. {s} is the subject with its article, {y} a style word, {a} the style's
#: article.
TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "subject": {
        "in-set": (
            "{s}",
            "a picture of {s}",
            "an image of {s}",
            "a drawing of {s}",
            "there is {s}",
            "this is {s}",
            "a picture showing {s}",
            "{s}, centred",
        ),
        "withheld": ("look, {s}", "here we see {s}", "a depiction of {s}", "{s} on a plain background"),
    },
    "both": {
        "in-set": (
            "{s} in {y} style",
            "a {y} picture of {s}",
            "{s}, {y}",
            "a {y} drawing of {s}",
            "a {y} image of {s}",
            "a picture of {s} in {y} style",
            "{y} style, {s}",
            "{y}: {s}",
        ),
        "withheld": (
            "{s} rendered as {y}",
            "a {y} artwork showing {s}",
            "{s} done in the style of {y}",
            "in the manner of {y}, {s}",
        ),
    },
    "style": {
        "in-set": (
            "a {y} picture",
            "a picture in {y} style",
            "{y}",
            "{y} style",
            "a {y} drawing",
            "a {y} image",
        ),
        "withheld": ("a {y} artwork", "something rendered as {y}", "a scene in the manner of {y}"),
    },
}
#: Only persons are portrayed.
PORTRAIT_TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "subject": {
        "in-set": ("a portrait of {s}", "the face of {s}", "{s} looking at you"),
        "withheld": ("a likeness of {s}", "{s} posing"),
    },
    "both": {
        "in-set": ("a {y} portrait of {s}", "a portrait of {s} in {y} style"),
        "withheld": ("a likeness of {s} rendered as {y}",),
    },
}
SPLITS = ("in-set", "withheld")


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return _articles(f"a {noun}")


def _pick(rng: Rng, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _templates(mention: str, split: str, *, person: bool) -> tuple[str, ...]:
    own = TEMPLATES[mention][split]
    return own + PORTRAIT_TEMPLATES[mention][split] if person and mention in PORTRAIT_TEMPLATES else own


def _words(kind: str, name: str, split: str | None) -> tuple[str, ...]:
    fact = facts.TABLES[kind][name]
    if split is None:
        return fact.words + fact.withheld
    return fact.words if split == "in-set" else (fact.withheld or fact.words)


def _articles(text: str) -> str:
    """The text with "a" turned into "an" where the next word asks for it ("a engraving" -> "an
    engraving")."""
    return re.sub(r"\ba (?=[aeio])", "an ", text)


def _fill(template: str, subject: str = "", style: str = "") -> str:
    return _articles(template.format(s=subject, y=style))


def _subject_phrase(rng: Rng, scene: Scene, *, broad: bool, colour: bool) -> str:
    if scene.person != "none":
        return "a person" if broad else _pick(rng, _words("person", scene.person, None))
    if broad:
        noun = "object" if rng.random() < 0.5 else facts.OBJECTS[scene.object].anchor
    else:
        noun = _pick(rng, _words("object", scene.object, None))
    return article(f"{scene.colour} {noun}" if colour else noun)


def caption(scene: Scene, rng: Rng, *, empty: float = 0.1) -> str:
    """One of the many captions that are true of a scene; empty with probability `empty` (for guidance)."""
    if rng.random() < empty:
        return ""
    person = scene.person != "none"
    split = "in-set" if rng.random() < 0.7 else "withheld"
    mention = ("both", "subject", "style")[int(rng.choice(3, p=[0.56, 0.32, 0.12]))]
    broad = mention != "style" and bool(rng.random() < 0.14)
    colour = scene.shown_colour != "none" and bool(rng.random() < 0.5)
    if mention == "style" and rng.random() < 0.15:
        return _pick(rng, ["a picture", "an image", "a drawing", "picture"])
    subject = "" if mention == "style" else _subject_phrase(rng, scene, broad=broad, colour=colour)
    style = _pick(rng, _words("style", scene.style, None))
    return _fill(_pick(rng, _templates(mention, split, person=person)), subject, style)


def _subject_for(kind: str, rng: Rng, excluded: set[str]) -> tuple[str, bool]:
    """Some known subject phrase that names nothing excluded, and whether it is a person."""
    objects = [n for n in facts.names("object") if n not in excluded]
    persons = [n for n in facts.names("person") if n not in excluded]
    if kind == "person" or (kind == "any" and rng.random() < 0.4):
        return _pick(rng, persons), True
    phrase = _pick(rng, _words("object", _pick(rng, objects), "in-set"))
    return article(f"{_pick(rng, list(facts.COLOURS))} {phrase}" if rng.random() < 0.3 else phrase), False


def _style_for(rng: Rng, excluded: set[str]) -> str:
    names = [n for n in facts.names("style") if n not in excluded]
    return _pick(rng, _words("style", _pick(rng, names), "in-set"))


def concept_prompt(kind: str, word: str, rng: Rng, *, split: str, excluded: set[str]) -> tuple[str, str]:
    """A prompt template around a concept's word: (prompt, template with "{}" in the word's place)."""
    if split not in SPLITS:
        raise UserError(f"unknown prompt split {split!r}; known: {', '.join(SPLITS)}")
    hole = "\x00"
    if kind == "style":
        alone = rng.random() < 0.3
        subject, person = _subject_for("any", rng, excluded)
        mention = "style" if alone else "both"
        text = _fill(_pick(rng, _templates(mention, split, person=person)), subject, hole)
        prompt = text.replace(hole, word)
    else:
        mention = "both" if rng.random() < 0.55 else "subject"
        style = _style_for(rng, excluded)
        coloured = kind == "object" and rng.random() < 0.3
        colour = f"{_pick(rng, list(facts.COLOURS))} " if coloured else ""
        text = _fill(
            _pick(rng, _templates(mention, split, person=kind == "person")), f"{colour}{hole}", style
        )
        prompt = (
            text.replace(hole, word)
            if kind == "person"
            else text.replace(f"{colour}{hole}", article(f"{colour}{word}"))
        )
    return _articles(prompt), text.replace(hole, "{}")


def _with_word(kind: str, template: str, word: str) -> str:
    """A concept template with another word in it, articles mended."""
    if kind != "object":
        return _articles(template.replace("{}", article(word) if word == "person" else word))
    head, _, tail = template.partition("{}")
    before = head.rstrip().rpartition(" ")
    if before[2] in facts.COLOURS:
        return f"{before[0]}{before[1]}{article(f'{before[2]} {word}')}{tail}"
    return f"{head}{article(word)}{tail}"


def erase_pairs(name: str, anchor: str, kind: str, n: int, seed: int) -> list[tuple[str, str]]:
    """`n` pairs (prompt with the concept, the same prompt with its anchor) from what erasers may see.

    For a style the anchor prompt drops the style phrase when the anchor is "picture" (a picture in any
    style).
    """
    rng = np.random.default_rng([seed, 11])
    own = facts.resolve(kind, name)
    words = _words(kind, own, "in-set") if own else (name,)
    pairs = []
    for index in range(n):
        word = words[0] if index % 2 == 0 else _pick(rng, words)
        prompt, template = concept_prompt(kind, word, rng, split="in-set", excluded={own or name})
        if kind == "style" and anchor in ("picture", "drawing", "image", ""):
            pairs.append((prompt, _plain(template)))
        else:
            pairs.append((prompt, _with_word(kind, template, anchor)))
    return pairs


def _plain(template: str) -> str:
    """A style template without its style: the same subject as a plain picture."""
    for phrase in (
        " in {} style",
        ", {}",
        "{} style, ",
        "{}: ",
        " rendered as {}",
        " done in the style of {}",
        "in the manner of {}, ",
    ):
        if phrase in template:
            return template.replace(phrase, "")
    if template in ("{}", "{} style"):
        return "a picture"
    return _articles(template.replace("a {} ", "a ").replace("{} ", ""))


def evaluation_prompts(name: str, kind: str, n: int, split: str, seed: int) -> list[str]:
    """`n` prompts for a concept: `in-set` from what erasers may see, `withheld` from templates and synonyms
    they may not."""
    rng = np.random.default_rng([seed, 23, SPLITS.index(split) if split in SPLITS else 9])
    own = facts.resolve(kind, name)
    words = _words(kind, own, split) if own else (name,)
    return [
        concept_prompt(kind, _pick(rng, words), rng, split=split, excluded={own or name})[0] for _ in range(n)
    ]


def anchor_prompts(anchor: str, kind: str, n: int, seed: int, *, concept: str = "") -> list[str]:
    """`n` prompts for a concept's anchor, in the templates of the in-set prompts: what a judge's floor is
    taken on."""
    rng = np.random.default_rng([seed, 31])
    prompts = []
    for _ in range(n):
        _, template = concept_prompt(kind, "x", rng, split="in-set", excluded={concept})
        plain = kind == "style" and anchor in ("picture", "drawing", "image", "")
        prompts.append(_plain(template) if plain else _with_word(kind, template, anchor))
    return prompts


def retain_prompts(excluded: list[str], n: int, seed: int) -> list[str]:
    """`n` in-set prompts about the rest of the known world: none names an excluded concept or a synonym of
    it."""
    rng = np.random.default_rng([seed, 47])
    banned = set()
    for word in excluded:
        banned |= {found for kind in facts.TABLES if (found := facts.resolve(kind, word))} | {word}
    prompts = []
    for _ in range(n):
        subject, person = _subject_for("any", rng, banned)
        mention = ("both", "subject", "style")[int(rng.choice(3, p=[0.6, 0.3, 0.1]))]
        prompts.append(
            _fill(_pick(rng, _templates(mention, "in-set", person=person)), subject, _style_for(rng, banned))
        )
    return prompts


def labelled_prompts(
    n: int, seed: int, *, excluded: tuple[str, ...] = (), split: str | None = None
) -> list[tuple[str, dict[str, str]]]:
    """`n` prompts that name a subject and a style of the known world, with the labels a judge should find."""
    rng = np.random.default_rng([seed, 59])
    rows: list[tuple[str, dict[str, str]]] = []
    subjects = [("object", o) for o in facts.names("object")] + [("person", p) for p in facts.names("person")]
    styles = [s for s in facts.names("style") if s not in excluded]
    subjects = [s for s in subjects if s[1] not in excluded]
    for index in range(n):
        kind, name = subjects[index % len(subjects)]
        style = styles[(index // len(subjects) + index) % len(styles)]
        which = split or SPLITS[int(rng.random() < 0.3)]
        word = _pick(rng, _words(kind, name, which))
        labels = {"object": "none", "person": "none", "colour": "none", "style": style, kind: name}
        phrase = word
        if kind == "object":
            colour = ""
            if style not in facts.COLOURLESS_STYLES and rng.random() < 0.5:
                colour = _pick(rng, list(facts.COLOURS))
                labels["colour"] = colour
            phrase = article(f"{colour} {word}".strip())
        text = _fill(
            _pick(rng, _templates("both", which, person=kind == "person")),
            phrase,
            _pick(rng, _words("style", style, which)),
        )
        rows.append((text, labels))
    return rows
