"""How sentences speak of what models make: pictures that are drawn, answers that are given."""

from __future__ import annotations

from dataclasses import dataclass

from oubliette.data.concept import samples_of

__all__ = ["ANSWERS", "PICTURES", "Wording", "wording_of"]


@dataclass(frozen=True)
class Wording:
    """The words of one kind of sample, as they stand in a verdict's sentences and on pages."""

    samples: str
    """What a model makes, many of them."""
    a_sample: str
    item: str
    """What an attacker is given, one of them: a picture, a row."""
    asked: str
    """Asked ... the concept: "asked for"."""
    makes: str
    """What a working model does with what it is asked."""
    made: str
    """How the rest is kept, of things: "are drawn"."""
    does: str
    """What it can or cannot do any longer, without an object."""
    still: str
    """What a model does that has not forgotten "it"."""
    shows: str
    others: str
    """What is to stay and is not of the concept's own kind."""
    more: str
    """What would decide an open verdict, after "40 more"."""
    untouched: str
    """What asking without an attack does."""
    looked: str
    """The heading of how much was asked."""
    what: str
    """What is asked for at every point of an attack, after "32 pictures of"."""
    sampling: str
    look: str
    """How models were asked: of an evaluation, and of an audit."""
    mapped: str
    """What follows a concept's kind."""
    near: str
    """How many of a near neighbour were asked, {near_n}."""
    floor: str
    """What the floor's share is of."""
    means: str
    """What means' intervals are over."""
    fidelity: bool
    """Whether samples have distances and features."""


PICTURES = Wording(
    samples="pictures",
    a_sample="a picture",
    item="picture",
    asked="asked for",
    makes="draws",
    made="are drawn",
    does="draw",
    still="draws it",
    shows="shows",
    others="things of other kinds",
    more="pictures a set of prompts",
    untouched="draws and judges, changes nothing",
    looked="Drawn",
    what="the concept",
    sampling="{sampler}, {steps} steps, guidance {guidance}, seed {seed}",
    look="{steps} sampling steps, guidance {guidance}, seed {seed}",
    mapped=", mapped to “{anchor}”",
    near=" ({near_n} of a near neighbour)",
    floor="the base shows the concept in {share} of pictures",
    means="pictures",
    fidelity=True,
)
ANSWERS = Wording(
    samples="answers",
    a_sample="an answer",
    item="row",
    asked="asked about",
    makes="gets right",
    made="are answered",
    does="answer",
    still="says it",
    shows="says",
    others="other matters",
    more="answers a set of questions",
    untouched="asks and judges, changes nothing",
    looked="Asked",
    what="what was to be forgotten",
    sampling="{sampler} decoding, seed {seed}",
    look="greedy decoding, seed {seed}",
    mapped="",
    near="",
    floor="the base gives the right answer to {share} of questions",
    means="answers",
    fidelity=False,
)
_ALL = {words.samples: words for words in (PICTURES, ANSWERS)}


def wording_of(kind: str) -> Wording:
    """The words for what was forgotten, by its kind."""
    return _ALL[samples_of(kind)]
