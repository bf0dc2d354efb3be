"""Articles fit, whole words are found, slots are filled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.data.words import article, fill, pattern, slotted, with_article


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("car", "a"),
        ("airplane", "an"),
        ("umbrella", "an"),
        ("unicorn", "a"),
        ("uninvited guest", "an"),
        ("European city", "a"),
        ("hourglass", "an"),
        ("house", "a"),
        ("used car", "a"),
        ("one way street", "a"),
        ("onion", "an"),
    ],
)
def test_articles_follow_the_sound(word: str, expected: str) -> None:
    assert article(word) == expected


def test_slots_are_filled_with_a_fitting_article() -> None:
    assert fill("a photo of a {} by an {}", "airplane") == "a photo of an airplane by an airplane"
    assert fill("An {} stands", "car") == "A car stands"
    assert fill("a picture of a {}", "the moon") == "a picture of the moon"
    assert fill("banana {}", "apple") == "banana apple"
    assert (with_article("person"), with_article("an actor"), with_article("Ada Lovelace")) == (
        "a person",
        "an actor",
        "Ada Lovelace",
    )


@given(st.text(max_size=30), st.text(max_size=10))
def test_filling_leaves_no_slot_and_invents_nothing(rest: str, word: str) -> None:
    rest, word = rest.replace("{}", ""), word.replace("{}", "")
    assert fill(f"x {{}}{rest}", word) == f"x {word}{rest}"


def test_whole_words_alone_are_found() -> None:
    found = pattern(["car", "golden gate"])
    assert found.search("two CARS, parked")
    assert found.search("the Golden  Gate's towers")
    assert not found.search("a carpet and a scar")
    assert not pattern([]).search("anything")
    assert slotted("a Car and a carpet", "car") == "a {} and a carpet"
    assert slotted("a carpet", "car") is None
    assert slotted("a carpet", "") is None
