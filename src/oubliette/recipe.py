"""The recipe: everything that defines a run, typed, read from YAML and written back beside every artefact."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import MAX_SEED, StrictModel, validated
from oubliette.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

    from oubliette.erase.policy import Policy
    from oubliette.train.smoothing import Smoother
    from oubliette.train.surgery import Surgery

__all__ = [
    "ConceptSpec",
    "DataSpec",
    "Recipe",
    "SaveSpec",
    "apply_overrides",
    "build_recipe",
    "dump",
    "load_recipe",
    "parse_yaml",
    "preset_names",
    "read_recipe",
    "validate",
]


_PARTS = ("method", "surgery", "smoother", "scope")


class ConceptSpec(StrictModel):
    """A concept to forget, the broader one it is mapped to, and synonyms that only evaluation uses."""

    name: str
    anchor: str
    kind: Literal["object", "style", "person"] = "object"
    synonyms: list[str] = Field(default_factory=list)


class DataSpec(StrictModel):
    """What a run learns from.

    `prompts` are made for each concept, `pictures` for all together, where the user brings none; the base
    draws the pictures with `picture_steps` and `picture_guidance`. `bank` names a prompt bank
    (None: the one that fits the model). `retain` are prompts that are to stay as they are. `pairs` is a file
    with the user's own prompts, `path` a folder with the user's own pictures. `avoid` are concepts that were
    erased before: nothing that is learnt from, or kept, names one.
    """

    prompts: int = Field(default=200, ge=1)
    pictures: int = Field(default=1000, ge=1)
    picture_steps: int = Field(default=25, ge=1)
    picture_guidance: float = Field(default=6.0, ge=0)
    bank: str | None = None
    retain: list[str] = Field(default_factory=list)
    pairs: str | None = None
    path: str | None = None
    avoid: list[ConceptSpec] = Field(default_factory=list)


class SaveSpec(StrictModel):
    """Where and how the result is saved: `full` opens without this package, `delta` holds what changed,
    `lora` is an adapter file of it, and `attached`, for methods that leave the weights alone, what goes with
    the base.

    Changed tensors are written in `dtype`, by default in the base's, which rounds away what is finer. A LoRA
    is of at most `rank`, or of the rank that keeps `energy` of each change's squared norm, or exact.
    """

    form: Literal["full", "delta", "lora", "attached"] = "full"
    path: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    rank: int | None = Field(default=None, ge=1)
    energy: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _bounds_of_a_lora(self) -> SaveSpec:
        if self.form != "lora" and (self.rank is not None or self.energy is not None):
            raise ValueError(f"rank and energy bound a LoRA: they need form 'lora', not '{self.form}'")
        if self.rank is not None and self.energy is not None:
            raise ValueError("rank and energy exclude each other: give one")
        if self.dtype is not None and self.form not in ("full", "delta"):
            raise ValueError(f"dtype is of what changed, saved full or delta: '{self.form}' has float32")
        return self

    def torch_dtype(self) -> torch.dtype | None:
        """`dtype` as torch has it."""
        import torch

        return None if self.dtype is None else getattr(torch, self.dtype)


class Recipe(StrictModel):
    """One run: model, concepts, method, training, data and seed.

    `method`, `surgery`, `smoother` and `scope` are mappings with a `name` and that part's own options; a bare
    name stands for a mapping with the name alone. `budget_for` is the number of concepts that the preset's
    budget was multiplied for when the recipe was composed. `freeze` lists tensors that must not move, or
    names a file that does. `forget` and `retain` are JSONL files of a language model's two sets, `sources`
    further files by the names that the method gives them ("refusals"). `policy` decides in a stream, request
    by request, what is run of this; None: all of it, each time.
    """

    name: str = ""
    about: str = ""
    model: str | None = None
    concepts: list[ConceptSpec] = Field(default_factory=list)
    method: dict[str, Any]
    train: TrainConfig = Field(default_factory=TrainConfig)
    budget_for: int = Field(default=1, ge=1)
    surgery: dict[str, Any] = Field(default_factory=lambda: {"name": "sum"})
    smoother: dict[str, Any] = Field(default_factory=lambda: {"name": "none"})
    scope: dict[str, Any]
    policy: dict[str, Any] | None = None
    freeze: list[str] | str | None = None
    data: DataSpec = Field(default_factory=DataSpec)
    forget: str | None = None
    retain: str | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    save: SaveSpec = Field(default_factory=SaveSpec)

    @field_validator(*_PARTS, "policy", mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name == "policy":
            return None
        value = {"name": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError("expected a name, or a mapping with a name and options")
        return dict(value)

    def method_options(self) -> BaseModel:
        """The method's own options, checked against its `Options`; imports the method's module."""
        from oubliette.erase import METHODS

        name, options = METHODS.parse(self.method)
        return validated(METHODS.get(name).Options, options, f"method '{name}'")

    def make_policy(self) -> Policy:
        """The policy this recipe asks for, at its start."""
        from oubliette.erase import POLICIES

        name, options = POLICIES.parse(self.policy or "fixed")
        policy = POLICIES.get(name)
        return policy(validated(policy.Options, options, f"policy '{name}'"))

    def make_surgery(self) -> Surgery:
        """The surgery this recipe asks for."""
        from oubliette.train import SURGERIES

        return SURGERIES.build(self.surgery)

    def make_smoother(self) -> Smoother:
        """The smoother this recipe asks for."""
        from oubliette.train import SMOOTHERS

        return SMOOTHERS.build(self.smoother)


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML file or a shipped preset, apply "a.b=c" overrides, and check structure and names.

    A preset may leave out model and concepts; `validate` checks the parts' own options as well.
    """
    return build_recipe(apply_overrides(read_recipe(source), overrides), f"recipe {source}")


def read_recipe(source: str | Path) -> dict[str, Any]:
    """The raw mapping of a YAML file (a path) or of a shipped preset (a bare name)."""
    text = str(source)
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml", ".json") or os.sep in text or path.is_file():
        if not path.is_file():
            raise UserError(f"recipe {source}: no such file")
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"recipe {source}: cannot be read ({reason}); expected YAML") from error
    else:
        if text not in preset_names():
            return _brought(text)
        return copy.deepcopy(_shipped()[text])
    found = parse_yaml(content, f"recipe {source}")
    if not isinstance(found, dict):
        raise UserError(f"recipe {source}: expected a mapping of keys, found {type(found).__name__}")
    return found


def _brought(name: str) -> dict[str, Any]:
    """The preset that a method brings itself, as one from another package does (its `preset`)."""
    from oubliette.erase import METHODS

    preset = getattr(METHODS.get(name), "preset", None) if name in METHODS else None
    if preset is None:
        raise UserError(f"no preset is called '{name}'; {suggest(name, preset_names())}")
    return {"method": name, **copy.deepcopy(dict(preset))}


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(_shipped())


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    """The shipped presets by name; a file's values for small models (`nano`) lie over its others."""
    found: dict[str, dict[str, Any]] = {}
    for entry in (files("oubliette") / "recipes").iterdir():
        name, _, suffix = entry.name.rpartition(".")
        if suffix == "yaml":
            content = parse_yaml(entry.read_text(encoding="utf-8"), f"recipe {name}")
            small = content.pop("nano", None) or {}
            found[name] = content
            if small:
                found[f"{name}-nano"] = {**_over(content, small), "name": f"{name}-nano"}
    return found


def _over(content: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with other values over its own: mappings are merged, but a part that is named is another."""
    merged = dict(content)
    for key, value in small.items():
        own = merged.get(key)
        if isinstance(value, Mapping) and isinstance(own, Mapping) and "name" not in value:
            merged[key] = _over(own, value)
        else:
            merged[key] = value
    return merged


def build_recipe(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A typed recipe from a mapping: an unknown key or part is a UserError with the nearest match."""
    from oubliette.erase import ELEMENTS, METHODS, POLICIES
    from oubliette.train import SMOOTHERS, SURGERIES
    from oubliette.train.scope import check_scope

    recipe = validated(Recipe, content, where)
    METHODS.check(recipe.method["name"])
    if recipe.policy is not None:
        POLICIES.check(recipe.policy["name"])
    SURGERIES.check(recipe.surgery["name"])
    SMOOTHERS.check(recipe.smoother["name"])
    scope = check_scope(recipe.scope)
    if scope.elements is not None:
        ELEMENTS.parse(scope.elements)
    return recipe


def validate(recipe: Recipe) -> Recipe:
    """Check every part's own options too, the concepts, and that the parts go together; returns the recipe.

    A surgery or a smoother for a method that is not trained is a UserError: it has no gradients. So are fewer
    updates than a part needs before it has any effect.
    """
    from oubliette.data.concept import Concept
    from oubliette.erase import ELEMENTS, METHODS
    from oubliette.train.scope import check_scope

    for each in (*recipe.concepts, *recipe.data.avoid):
        Concept(each.name, each.anchor, each.kind, tuple(each.synonyms))
    options = recipe.method_options()
    recipe.make_surgery()
    recipe.make_policy()
    smoother = recipe.make_smoother()
    smoother.begin(0, recipe.train.steps, recipe.seed)
    method = METHODS.get(recipe.method["name"])
    if smoother.extra_passes.inner and method.solution == "trained" and not getattr(method, "inner", ()):
        raise UserError(
            f"smoother '{recipe.smoother['name']}' as it is set looks where an attacker would go, and method "
            f"'{method.name}' has no attacker's loss (no inner role); another smoother.probe does without"
        )
    known = getattr(method, "sources", {})
    for name in recipe.sources:
        if name not in known:
            raise UserError(
                f"sources.{name}: method '{method.name}' reads no source of that name; "
                + (suggest(name, list(known)) if known else "it reads none beside forget and retain")
            )
    warm_up = getattr(options, "warm_up", None) or 0
    if method.solution == "trained" and warm_up >= recipe.train.steps:
        raise UserError(
            f"train.steps is {recipe.train.steps}, and '{method.name}' is still warming up in the last of "
            f"them (method.warm_up is {warm_up}): the model would not change; give more steps"
        )
    if (recipe.save.form == "attached") != (method.solution == "attached"):
        right = "attached" if method.solution == "attached" else "full, delta or lora"
        raise UserError(
            f"method '{method.name}' is {method.solution}: its result is saved as {right}, "
            f"found save.form '{recipe.save.form}'"
        )
    scope = check_scope(recipe.scope)
    if scope.elements is not None:
        ELEMENTS.build(scope.elements)
    if method.solution != "trained":
        for part in ("rank", "elements"):
            if getattr(scope, part) is not None:
                raise UserError(
                    f"method '{method.name}' is {method.solution}, not trained: scope.{part} is how a "
                    "trained method moves its tensors; leave it out"
                )
        for part, plain in (("surgery", "sum"), ("smoother", "none")):
            asked = getattr(recipe, part)["name"]
            if asked != plain:
                raise UserError(
                    f"method '{method.name}' is {method.solution}, not trained: it has no gradients "
                    f"that {part} '{asked}' could work on; leave {part} at '{plain}'"
                )
    return recipe


def apply_overrides(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a raw recipe with "a.b=c" set in it; c is read as YAML, list items are named by index.

    Whether the keys exist is checked when the recipe is built.
    """
    changed = copy.deepcopy(dict(content))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"override '{override}': expected key=value, such as train.steps=200")
        value = parse_yaml(text, f"override '{override}'")
        _set(changed, keys, value, override)
    return changed


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out: reading it gives an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _set(content: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    here: Any = content
    for index, key in enumerate(keys):
        last = index == len(keys) - 1
        place = ".".join(keys[: index + 1])
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise UserError(
                    f"override '{override}': '{place}' is an entry of a list of {len(here)} (from 0)"
                )
            position: Any = int(key)
        elif isinstance(here, dict):
            position = key
            # A bare name stands for a mapping with that name: method=npo, then method.beta=0.5.
            if not last and key in (*_PARTS, "policy") and isinstance(here.get(key), str):
                here[key] = {"name": here[key]}
            if not last and here.get(key) is None:
                here[key] = {}
        else:
            raise UserError(f"override '{override}': '{'.'.join(keys[:index])}' holds {here!r} and no keys")
        if last:
            here[position] = value
        else:
            here = here[position]


class _Loader(yaml.SafeLoader):
    """YAML whose 1e-5 is a number, as YAML 1.2 and every reader of a recipe have it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML text says; UserError, with `where` and the line, for one that is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}{line}") from None
