"""A concept that makes no sense is refused in one line."""

from __future__ import annotations

import pytest

from oubliette.data.concept import Concept
from oubliette.errors import UserError


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
    ],
)
def test_nonsense_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Concept(**fields)
