"""From recipe to request, and the user's own prompt pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.text import InputWarning
from oubliette.erase.request import ErasureRequest, PromptPair, read_pairs
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
        ("", "holds no rows"),
        ("target,anchor\n", "holds no rows"),
        ("target,anchor\n,an object\n", "line 2: the target prompt is empty"),
        ("target,anchor\na car\n", "line 2: has 1 cells, expected 2"),
        ("target,anchor\na photo of a car, red,a photo of an object\n", "line 2: has 3 cells, expected 2"),
        ("target,anchor\na car,an ob\x07ject\n", "line 2: anchor .* holds BEL"),
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


def test_pairs_of_which_no_target_names_the_concept_are_told_of(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "target,anchor\na dog,an object\na cat,an object\n")
    with pytest.warns(InputWarning, match="none of the 2 target prompts names 'car', as in 'a dog'"):
        read_pairs(path, CONCEPTS[:1])


@pytest.mark.parametrize("anchors", [("truck", "object"), ("truck", "car"), ("a truck", "vehicle")])
def test_an_anchor_that_is_itself_to_be_erased_is_named(anchors: tuple[str, str]) -> None:
    names = zip(("car", "truck"), anchors, strict=True)
    concepts = [{"name": name, "anchor": anchor} for name, anchor in names]
    with pytest.raises(
        UserError, match=r"concept 'car': the anchor .* names 'truck', which is itself to be erased"
    ):
        ErasureRequest.from_recipe(recipe(concepts=concepts))


def test_an_anchor_prompt_that_is_itself_to_be_erased_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "concept,target,anchor\ncar,a car,a painting by van Gogh\n")
    with pytest.raises(UserError, match=r"line 2: the anchor prompt .* names 'van gogh'"):
        read_pairs(path, CONCEPTS)


def test_prompts_to_retain_that_name_the_concept_are_told_of() -> None:
    asked = {"concepts": [{"name": "car", "anchor": "object"}], "data": {"retain": ["a red car", "a dog"]}}
    with pytest.warns(InputWarning, match="1 of 2 prompts to retain name a concept to erase, as 'a red car'"):
        ErasureRequest.from_recipe(recipe(**asked))
    with pytest.raises(UserError, match=r"1 of 1 prompts to retain .* nothing else would be kept"):
        ErasureRequest.from_recipe(recipe(**{**asked, "data": {"retain": ["cars"]}}))
    with pytest.raises(UserError, match=r"the prompt to retain .* holds ESC"):
        ErasureRequest.from_recipe(recipe(**{**asked, "data": {"retain": ["a \x1bdog"]}}))


def test_a_missing_pair_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "none.csv", CONCEPTS)
