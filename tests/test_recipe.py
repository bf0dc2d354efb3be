import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.recipe import (
    apply_overrides,
    build_recipe,
    dump,
    load_recipe,
    preset_names,
    read_recipe,
    validate,
)

SMALL = {"method": "npo", "scope": "full", "train": {"steps": 3}}


def test_every_shipped_preset_is_valid_and_survives_a_round_trip(tmp_path):
    assert {"npo", "graddiff"} <= set(preset_names())
    for name in preset_names():
        recipe = load_recipe(name)
        assert recipe.about, name
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump(recipe), encoding="utf-8")
        assert load_recipe(path) == recipe


@pytest.mark.parametrize("name", ["npo", "graddiff"])
def test_language_presets_have_options_their_methods_accept(name):
    recipe = validate(load_recipe(name))
    assert recipe.train.learning_rate == 1e-5
    assert recipe.surgery == {"name": "sum"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"trian": {}}, r"recipe: unknown key 'trian'; did you mean 'train'\?"),
        (
            {"train": {"learning_rat": 1}},
            r"unknown key 'train\.learning_rat'; did you mean 'learning_rate'\?",
        ),
        (
            {"concepts": [{"name": "car", "anchor": "object", "kid": "style"}]},
            r"unknown key 'concepts\.0\.kid'; did you mean 'kind'\?",
        ),
        ({"train": {"steps": 0}}, r"'train\.steps': Input should be greater than or equal to 1, found 0"),
        ({"train": {"learning_rate": "fast"}}, r"'train\.learning_rate'.*found 'fast'"),
        ({"concepts": [{"name": "car"}]}, r"'concepts\.0\.anchor' is missing"),
        ({"surgery": {"strength": 1}}, "'surgery': expected a name, or a mapping with a name"),
        ({"method": "npoo"}, r"no method is called 'npoo'; did you mean 'npo'\?"),
        ({"surgery": "projct"}, r"no surgery is called 'projct'; did you mean 'project'\?"),
        ({"smoother": "samm"}, r"no smoother is called 'samm'; did you mean 'sam'\?"),
        ({"scope": "xatn-kv"}, r"no scope is called 'xatn-kv'; did you mean 'xattn-kv'\?"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_with_the_nearest_match(content, line):
    with pytest.raises(UserError, match=line):
        build_recipe({**SMALL, **content})


def test_parts_options_are_checked_by_validate():
    recipe = build_recipe({**SMALL, "method": {"name": "npo", "betta": 0.1}})
    with pytest.raises(UserError, match=r"method 'npo': unknown key 'betta'; did you mean 'beta'\?"):
        validate(recipe)
    recipe = build_recipe({**SMALL, "surgery": {"name": "project", "stength": 1}})
    with pytest.raises(
        UserError, match=r"surgery 'project': unknown key 'stength'; did you mean 'strength'\?"
    ):
        validate(recipe)
    recipe = build_recipe({**SMALL, "smoother": {"name": "sam", "rho": -1}})
    with pytest.raises(UserError, match="rho must be at least 0"):
        validate(recipe)


def test_a_smoother_that_reads_an_attackers_loss_is_refused_where_there_is_none():
    asked = {"name": "stableun", "probe": "gap"}
    drawn = {**SMALL, "method": "esd"}
    with pytest.raises(UserError, match="method 'esd' has no attacker's loss"):
        validate(build_recipe({**drawn, "smoother": asked}))
    validate(build_recipe({**drawn, "smoother": "stableun"}))
    validate(build_recipe({**SMALL, "smoother": asked}))


def test_a_solved_method_takes_no_surgery_and_no_smoother():
    solved = {"method": "uce", "scope": "xattn-kv"}
    validate(build_recipe(solved))
    with pytest.raises(UserError, match=r"method 'uce' is solved, not trained.*surgery 'project'"):
        validate(build_recipe({**solved, "surgery": "project"}))
    with pytest.raises(UserError, match="smoother 'sam'"):
        validate(build_recipe({**solved, "smoother": "sam"}))


def test_overrides_set_nested_values_lists_and_parts_given_by_name():
    raw = {**SMALL, "surgery": "project", "concepts": [{"name": "car", "anchor": "object"}]}
    changed = apply_overrides(
        raw,
        [
            "train.learning_rate=1e-5",
            "surgery.strength=0.5",
            "concepts.0.name=truck",
            "data.retain=[a, b]",
            "freeze=null",
        ],
    )
    recipe = build_recipe(changed)
    assert recipe.train.learning_rate == 1e-5
    assert recipe.train.steps == 3
    assert recipe.surgery == {"name": "project", "strength": 0.5}
    assert recipe.concepts[0].name == "truck"
    assert recipe.data.retain == ["a", "b"]
    assert raw["surgery"] == "project"  # the original is left alone


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("train.steps.more=3", "'train.steps' holds 3 and no keys"),
        ("concepts.4.name=x", "'concepts.4' is an entry of a list of 1"),
        ("train.steps=[", "not YAML"),
    ],
)
def test_broken_overrides_are_refused(override, line):
    raw = {**SMALL, "concepts": [{"name": "car", "anchor": "object"}]}
    with pytest.raises(UserError, match=line):
        apply_overrides(raw, [override])


def test_an_override_with_an_unknown_key_is_refused_when_the_recipe_is_built():
    with pytest.raises(UserError, match=r"recipe npo: unknown key 'train\.step'; did you mean 'steps'\?"):
        load_recipe("npo", ["train.step=3"])


def test_files_that_are_no_recipe_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no preset is called 'nppo'; did you mean 'npo'\?"):
        read_recipe("nppo")
    with pytest.raises(UserError, match="no such file"):
        read_recipe(tmp_path / "none.yaml")
    path = tmp_path / "r.yaml"
    path.write_text("a: [1,\nb: 2", encoding="utf-8")
    with pytest.raises(UserError, match=r"not YAML.*line 2"):
        read_recipe(path)
    path.write_text("- 1", encoding="utf-8")
    with pytest.raises(UserError, match="expected a mapping of keys, found list"):
        read_recipe(path)


@settings(deadline=None, max_examples=50)
@given(value=st.floats(min_value=1e-12, max_value=1e3))
def test_floats_in_any_notation_are_numbers(value):
    recipe = build_recipe(apply_overrides(SMALL, [f"surgery.strength={value!r}", "surgery.name=project"]))
    assert recipe.surgery["strength"] == value
    assert isinstance(recipe.surgery["strength"], float)


def test_reading_recipes_loads_no_torch():
    code = (
        "import sys; from oubliette.recipe import load_recipe; load_recipe('npo'); "
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
