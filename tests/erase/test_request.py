"""From recipe to request, and the user's own prompt pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from oubliette.data.concept import Concept
from oubliette.erase.request import ErasureRequest, PromptPair, read_pairs
from oubliette.errors import UserError
from oubliette.recipe import build_recipe

CONCEPTS = (Concept("car", "object"), Concept("van gogh", "painting", "style"))


def recipe(**more: object):
    return build_recipe({"method": "uce", "scope": "xattn-kv", **more})


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_request_says_what_the_recipe_says(tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.csv", "target,anchor\na red car,a red object\n")
    request = ErasureRequest.from_recipe(
        recipe(
            concepts=[{"name": "car", "anchor": "object", "synonyms": ["automobile"]}],
            data={
                "prompts": 7,
                "pictures": 9,
                "picture_steps": 3,
                "picture_guidance": 2.5,
                "retain": ["a dog"],
                "pairs": str(pairs),
                "path": "pictures",
                "bank": "general",
            },
            forget="f.jsonl",
            retain="r.jsonl",
        )
    )
    assert request == ErasureRequest(
        concepts=(Concept("car", "object", synonyms=("automobile",)),),
        pairs=(PromptPair("a red car", "a red object"),),
        retain=("a dog",),
        pictures=Path("pictures"),
        bank="general",
        prompt_count=7,
        picture_count=9,
        picture_steps=3,
        picture_guidance=2.5,
        forget=Path("f.jsonl"),
        retain_file=Path("r.jsonl"),
    )


def test_a_concept_listed_twice_is_refused() -> None:
    with pytest.raises(UserError, match="'car' is listed twice"):
        ErasureRequest.from_recipe(recipe(concepts=[{"name": "car", "anchor": "object"}] * 2))


def test_pairs_of_several_concepts_name_theirs(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "concept,target,anchor\nvan gogh,a van gogh,a painting\ncar,a car,\n")
    assert read_pairs(path, CONCEPTS) == (
        PromptPair("a van gogh", "a painting", 1),
        PromptPair("a car", "", 0),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target\na car\n", "no column 'anchor'; found target"),
        ("", "no column 'target'; found nothing"),
        ("target,anchor\n", "holds no pairs"),
        ("target,anchor\n,an object\n", "line 2: a pair needs a target"),
        ("target,anchor\na car\n", "line 2: a pair needs a target and an anchor"),
    ],
)
def test_a_bad_pair_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path / "p.csv", text), CONCEPTS[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target,anchor\na car,an object\n", "no column 'concept'"),
        ("target,anchor,concept\na car,an object,\n", "line 2: the concept is empty"),
        ("target,anchor,concept\na car,an object,carr\n", "did you mean 'car'"),
    ],
)
def test_with_several_concepts_each_pair_must_say_whose_it_is(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path / "p.csv", text), CONCEPTS)


def test_a_missing_pair_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv", CONCEPTS)
