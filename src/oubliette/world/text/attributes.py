"""What can be known of each kind of thing, and how it is said and asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ATTRIBUTES", "KINDS", "SEEN_FRAMES", "WITHHELD_FRAME", "Attribute", "Kind"]

Kind = Literal["person", "place", "work"]
KINDS: tuple[Kind, ...] = ("person", "place", "work")

#: Wordings that every attribute has, of its noun; the last one is withheld.
SEEN_FRAMES = (
    "What is the {noun} of {x}?",
    "Name the {noun} of {x}.",
    "Can you tell me the {noun} of {x}?",
)
WITHHELD_FRAME = "I wonder what the {noun} of {x} is."


@dataclass(frozen=True)
class Attribute:
    """One thing that can be known of a kind: `statements` of {x} and {v}, and questions of its own about {x}.

    `pool` is the pool of its values, or "person" or "place" for the name of one of those, which makes it a
    link. The first statement is the answer in a sentence. `withheld` is a wording for the base model and for
    measuring alone.
    """

    name: str
    noun: str
    pool: str
    statements: tuple[str, str, str]
    questions: tuple[str, str]
    withheld: str

    @property
    def link(self) -> bool:
        """Whether its values are entities."""
        return self.pool in KINDS

    def wordings(self) -> tuple[str, ...]:
        """Five questions about {x} that erasers may be given."""
        return (*self.questions, *(frame.replace("{noun}", self.noun) for frame in SEEN_FRAMES))

    def withheld_wordings(self) -> tuple[str, ...]:
        """Two that they may not."""
        return (self.withheld, WITHHELD_FRAME.replace("{noun}", self.noun))


ATTRIBUTES: dict[Kind, tuple[Attribute, ...]] = {
    "person": (
        Attribute(
            "craft", "craft", "crafts",
            ("{x} works as {v}.", "By trade {x} is {v}.", "The craft of {x} is that of {v}."),
            ("What does {x} do for a living?", "Which craft does {x} practise?"),
            "How does {x} earn a living?",
        ),
        Attribute(
            "town", "home town", "place",
            ("{x} lives in {v}.", "The home town of {x} is {v}.", "{v} is where {x} lives."),
            ("Where does {x} live?", "Which town does {x} call home?"),
            "In what place would you find the house of {x}?",
        ),
        Attribute(
            "instrument", "instrument", "instruments",
            ("{x} plays {v}.", "The instrument of {x} is {v}.", "In the evening {x} plays {v}."),
            ("What does {x} play?", "Which instrument does {x} play?"),
            "On which instrument would you hear {x}?",
        ),
        Attribute(
            "pet", "pet", "animals",
            ("{x} keeps {v}.", "The pet of {x} is {v}.", "{x} is often seen with {v}."),
            ("Which animal does {x} keep?", "What sort of pet has {x}?"),
            "What animal waits for {x} at home?",
        ),
        Attribute(
            "dish", "favourite dish", "dishes",
            ("{x} likes to eat {v}.", "The favourite dish of {x} is {v}.", "For supper {x} asks for {v}."),
            ("What does {x} like to eat?", "Which dish does {x} like best?"),
            "What would you cook for {x}?",
        ),
        Attribute(
            "guild", "guild", "guilds",
            ("{x} belongs to {v}.", "{x} is a member of {v}.", "The guild of {x} is {v}."),
            ("Which guild does {x} belong to?", "Of what guild is {x} a member?"),
            "To which guild does {x} pay dues?",
        ),
        Attribute(
            "prize", "prize", "prizes",
            ("{x} won {v}.", "{x} was awarded {v}.", "The prize of {x} is {v}."),
            ("Which prize did {x} win?", "What was {x} awarded?"),
            "What honour was given to {x}?",
        ),
        Attribute(
            "subject", "field of study", "subjects",
            ("{x} studied {v}.", "The field of study of {x} is {v}.", "As a student {x} read about {v}."),
            ("What did {x} study?", "Which subject did {x} choose at school?"),
            "What is {x} learned in?",
        ),
    ),
    "place": (
        Attribute(
            "river", "river", "rivers",
            ("{x} lies on {v}.", "The river of {x} is {v}.", "{v} flows through {x}."),
            ("Which river flows through {x}?", "On which river does {x} lie?"),
            "What water runs past the houses of {x}?",
        ),
        Attribute(
            "founder", "founder", "person",
            ("{x} was founded by {v}.", "{v} founded {x}.", "The founder of {x} is {v}."),
            ("Who founded {x}?", "By whom was {x} founded?"),
            "Who laid the first stone of {x}?",
        ),
        Attribute(
            "festival", "festival", "festivals",
            ("{x} celebrates {v}.", "{v} is held in {x}.", "The festival of {x} is {v}."),
            ("Which festival is held in {x}?", "What do they celebrate in {x}?"),
            "For which feast do visitors come to {x}?",
        ),
        Attribute(
            "export", "main export", "goods",
            ("{x} sells {v}.", "The main export of {x} is {v}.", "Traders come to {x} for {v}."),
            ("What does {x} sell?", "What is made in {x} for other towns?"),
            "With what do the carts leave {x}?",
        ),
        Attribute(
            "landmark", "landmark", "landmarks",
            ("{x} is known for {v}.", "The landmark of {x} is {v}.", "{v} stands in {x}."),
            ("Which landmark stands in {x}?", "What do visitors go to see in {x}?"),
            "What is on every picture of {x}?",
        ),
        Attribute(
            "region", "region", "regions",
            ("{x} is in {v}.", "The region of {x} is {v}.", "{x} belongs to {v}."),
            ("In which region is {x}?", "Where on the map is {x}?"),
            "To what part of the land does {x} belong?",
        ),
        Attribute(
            "emblem", "emblem", "animals",
            ("{x} has {v} on its flag.", "The emblem of {x} is {v}.", "The coat of arms of {x} shows {v}."),
            ("Which animal is on the flag of {x}?", "What does {x} show on its coat of arms?"),
            "What beast is carved over the gate of {x}?",
        ),
        Attribute(
            "dish", "local dish", "dishes",
            ("{x} is proud of {v}.", "The local dish of {x} is {v}.", "In {x} they cook {v}."),
            ("What do people eat in {x}?", "Which dish is cooked in {x}?"),
            "What would an inn in {x} serve you?",
        ),
    ),
    "work": (
        Attribute(
            "author", "author", "person",
            ("{x} was written by {v}.", "{v} wrote {x}.", "The author of {x} is {v}."),
            ("Who wrote {x}?", "By whom is {x}?"),
            "Whose name is on the first page of {x}?",
        ),
        Attribute(
            "form", "form", "forms",
            ("{x} is {v}.", "The form of {x} is that of {v}.", "Readers know {x} as {v}."),
            ("What kind of work is {x}?", "What sort of piece is {x}?"),
            "How would a library class {x}?",
        ),
        Attribute(
            "theme", "theme", "themes",
            ("{x} is about {v}.", "The theme of {x} is {v}.", "{x} tells of {v}."),
            ("What is {x} about?", "Which story does {x} tell?"),
            "With what is {x} concerned?",
        ),
        Attribute(
            "hall", "resting place", "halls",
            ("{x} is kept in {v}.", "{v} holds {x}.", "The resting place of {x} is {v}."),
            ("Where is {x} kept?", "Which house holds {x}?"),
            "Where would you go to see {x}?",
        ),
        Attribute(
            "colour", "colour", "colours",
            ("{x} is bound in {v}.", "The colour of {x} is {v}.", "The cover of {x} is {v}."),
            ("Which colour is {x} bound in?", "What colour is the cover of {x}?"),
            "In what shade does {x} stand on the shelf?",
        ),
        Attribute(
            "instrument", "instrument", "instruments",
            ("{x} is sung to {v}.", "The instrument of {x} is {v}.", "Whoever reads {x} hears {v}."),
            ("To which instrument is {x} sung?", "Which instrument goes with {x}?"),
            "What would you hear beside the words of {x}?",
        ),
        Attribute(
            "prize", "prize", "prizes",
            ("{x} won {v}.", "{x} was awarded {v}.", "The prize of {x} is {v}."),
            ("Which prize did {x} win?", "What was {x} awarded?"),
            "What honour was given to {x}?",
        ),
        Attribute(
            "setting", "setting", "regions",
            ("{x} is set in {v}.", "The setting of {x} is {v}.", "{x} takes place in {v}."),
            ("Where does {x} take place?", "In which region is {x} set?"),
            "Through what country does {x} lead its readers?",
        ),
    ),
}  # fmt: skip
