"""A concept that makes no sense is refused in one line."""

from __future__ import annotations

import warnings

import pytest

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept, hint
from oubliette.data.text import InputWarning


def test_a_concept_is_tidied_and_can_be_a_key() -> None:
    concept = Concept(
        "  golden   gate ", "bridge", synonyms=("the bridge of SF", "Golden Gate", "", "THE bridge of sf")
    )
    assert (concept.name, concept.synonyms) == ("golden gate", ("the bridge of SF",))
    assert concept.words == ("golden gate", "the bridge of SF")
    assert {concept: 1}[Concept("golden gate", "bridge", "object", ("the bridge of SF",))] == 1
    assert Concept("car", "").anchor == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "  ", "anchor": "object"}, "concept is empty"),
        ({"name": "car", "anchor": " Car "}, "concept itself"),
        ({"name": "car", "anchor": "auto", "synonyms": ("AUTO",)}, "concept itself"),
        ({"name": "car", "anchor": "object", "kind": "stile"}, "did you mean 'style'"),
        ({"name": "car", "anchor": "object", "synonyms": "auto"}, "must be a list"),
        ({"name": "car\ntruck", "anchor": "object"}, "concept 'car.ntruck' holds a newline"),
        ({"name": "car", "anchor": "ob\x1bject"}, "the anchor .* holds ESC"),
        ({"name": "car", "anchor": "object", "synonyms": ("au\x07to",)}, "the synonym .* holds BEL"),
    ],
)
def test_nonsense_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Concept(**fields)


@pytest.mark.parametrize(
    ("concept", "said"),
    [
        (Concept("car; truck", "object"), "taken as one; .* --concept 'car' --concept 'truck'"),
        (Concept("car, truck", "object"), "taken as one; .* --concept 'car' --concept 'truck'"),
        (Concept("car", "red car"), "its anchor 'red car' names it"),
        (Concept("car", "motor", synonyms=("auto",)), None),
        (Concept("Hokusai,", "painting"), None),
    ],
)
def test_what_is_probably_not_meant_is_said(concept: Concept, said: str | None) -> None:
    if said is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hint([concept])
        return
    with pytest.warns(InputWarning, match=said):
        hint([concept])
