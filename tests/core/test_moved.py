"""Names of before: each is found where it is now, said once, and nothing of it is paid for at import."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings

import pytest

from oubliette.core.moved import MODULES, NAMES

SAMPLE = {
    "oubliette.errors": "UserError",
    "oubliette.registry": "Registry",
    "oubliette.compose": "compose",
    "oubliette.kept": "read_kept",
    "oubliette.eval.fid": "fid",
    "oubliette.eval.likelihood": "Said",
    "oubliette.eval.painter": "Sampling",
    "oubliette.guard.mixing": "Mixed",
    "oubliette.audit.setting": "set_up",
    "oubliette.guarding.apply": "apply_mask",
    "oubliette.world.training.oracle": "wear",
}
STAYED = [module for module in NAMES if module not in MODULES]


def said(warned: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in warned if each.category is DeprecationWarning]


def now(module: str, name: str) -> object:
    place, _, other = NAMES.get(module, {}).get(name, f"{MODULES.get(module)}:{name}").partition(":")
    return getattr(importlib.import_module(place), other)


@pytest.mark.parametrize(("module", "name"), SAMPLE.items())
def test_an_old_module_warns_once_and_gives_the_same_objects(module: str, name: str) -> None:
    sys.modules.pop(module, None)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loaded: dict[str, object] = {}
        for _ in range(2):
            exec(f"from {module} import {name}", loaded)
    assert loaded[name] is now(module, name)
    ours = [each for each in warned if module in str(each.message)]
    assert said(ours) == [f"{module} is now {MODULES[module]}"]
    assert ours[0].filename == "<string>"  # the user's line, not ours


@pytest.mark.parametrize("module", MODULES)
def test_every_old_module_leads_to_one_of_now(module: str) -> None:
    importlib.import_module(MODULES[module])
    assert importlib.import_module(module).__doc__


@pytest.mark.parametrize("module", NAMES)
def test_every_name_of_before_is_found(module: str) -> None:
    for name in NAMES[module]:
        assert getattr(importlib.import_module(module), name) is now(module, name)


def test_a_name_that_left_a_module_which_stays_is_said() -> None:
    from oubliette.eval import evaluate

    vars(evaluate).pop("plan_for", None)  # another test may have asked for it
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        loaded: dict[str, object] = {}
        exec("from oubliette.eval.evaluate import plan_for", loaded)
        assert loaded["plan_for"] is evaluate.plan_for is now("oubliette.eval.evaluate", "plan_for")
    told = "oubliette.eval.evaluate.plan_for is now oubliette.eval.pictures.evaluator.plan_for"
    assert said(warned) == [told]
    with pytest.raises(AttributeError, match="no attribute 'plan_fur'"):
        evaluate.plan_fur  # noqa: B018


@pytest.mark.parametrize("name", ["enforce", "learn", "verify"])
def test_a_file_that_became_a_room_gives_its_function(name: str) -> None:
    code = (
        f"from oubliette.guard.{name} import {name}\nimport oubliette.guard as guard\n"
        f"for call in ({name}, guard.{name}):\n"
        f"    try: call()\n    except TypeError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.count(f"{name}() missing") == 2


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("oubliette.errands")
    with pytest.raises(ImportError):
        exec("from oubliette.errors import NoSuchError")


def test_nothing_of_this_package_imports_an_old_name() -> None:
    code = "import oubliette.cli, oubliette.api, sys\nfrom oubliette.core.moved import MODULES\n"
    code += "print([name for name in MODULES if name in sys.modules])"
    run = [sys.executable, "-W", "error::DeprecationWarning:oubliette", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "[]"
