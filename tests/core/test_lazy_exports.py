"""A package's face: names that import nothing until used, modules that can be called."""

from __future__ import annotations

import subprocess
import sys

import pytest

import oubliette
from oubliette import guard


@pytest.mark.parametrize("package", [oubliette, guard])
def test_every_name_is_there_and_listed(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_a_module_with_a_functions_name_is_both() -> None:
    import oubliette.guard.verify as module

    assert guard.verify is module
    with pytest.raises(oubliette.UserError, match="nowhere"):
        guard.verify("nowhere", "nothing")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'oubliette\.guard' has no attribute 'enforced'"):
        guard.enforced  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, oubliette, oubliette.guard; "
        "print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
