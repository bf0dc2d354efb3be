import subprocess
import sys

import pytest

from oubliette.core.errors import UserError
from oubliette.core.registry import Registry
from oubliette.train import SMOOTHERS, SURGERIES


class Part:
    def __init__(self, size: int = 1, mode: str = "a") -> None:
        self.size, self.mode = size, mode


def test_get_imports_on_demand_and_keeps_the_object():
    parts: Registry = Registry("part", {"decoder": "json:JSONDecoder", "part": Part})
    import json

    assert parts.get("decoder") is json.JSONDecoder
    assert parts.get("part") is Part
    assert parts.names() == ["decoder", "part"]


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"no surgery is called 'projekt'; did you mean 'project'\?"):
        SURGERIES.get("projekt")


def test_register_adds():
    parts: Registry = Registry("part", {})
    parts.register("mine", Part)
    assert "mine" in parts
    assert parts.get("mine") is Part


def test_build_checks_names_and_types_of_options():
    parts: Registry = Registry("part", {"part": Part})
    assert parts.build("part").size == 1
    assert parts.build({"name": "part", "size": 3}).size == 3
    with pytest.raises(UserError, match=r"part 'part': unknown key 'siz'; did you mean 'size'\?"):
        parts.build({"name": "part", "siz": 3})
    with pytest.raises(UserError, match=r"part .part.: .size.*found .three."):
        parts.build({"name": "part", "size": "three"})
    with pytest.raises(UserError, match="'name' is missing"):
        parts.build({"size": 3})


def test_build_of_a_class_that_inherits_its_constructor():
    assert type(SURGERIES.build("sum")).__name__ == "Sum"
    assert SMOOTHERS.build({"name": "sam", "rho": 0.5}).rho == 0.5
    with pytest.raises(UserError, match="unknown key 'rho'"):
        SMOOTHERS.build({"name": "none", "rho": 0.5})


def test_listing_names_loads_no_torch():
    code = (
        "import sys; from oubliette.train import SCOPES, SMOOTHERS, SURGERIES; "
        "print(SURGERIES.names(), SMOOTHERS.names(), SCOPES.names()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
