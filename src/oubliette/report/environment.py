"""The templates' environment: what every page is rendered in."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oubliette.core.numbers import unbroken
from oubliette.report import words

__all__ = ["make_environment", "styles"]


def make_environment(**names: Any) -> Environment:
    """Templates of this room, everything escaped, an unknown name an error; `names` are known in all."""
    environment = Environment(
        loader=PackageLoader("oubliette.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(words=words, unbroken=unbroken, dash=words.MISSING, **names)
    return environment


def styles(environment: Environment, *files: str) -> Markup:
    """Style sheets of this room, one after the other, to stand in the page."""
    loader = environment.loader
    assert loader is not None
    return Markup("".join(loader.get_source(environment, file)[0] for file in files))
