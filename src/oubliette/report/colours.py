"""One colour a row, the same in every plot, card and table of a page, for light and for dark."""

from __future__ import annotations

from collections.abc import Sequence

from oubliette.eval.rows import BASE

#: CSS variables of the models under test, in order; defined for both colour schemes in style.css.
MODEL_COLOURS = ("--m1", "--m2", "--m3", "--m4", "--m5", "--m6")
CONTROL_COLOURS = {
    BASE: "--c-none",
    "gold": "--c-gold",
    "random weights": "--c-random",
    "prompt filter": "--c-filter",
}


def colour_names(models: Sequence[str], controls: Sequence[str]) -> dict[str, str]:
    """The CSS variable of each row's colour."""
    found = {name: MODEL_COLOURS[index % len(MODEL_COLOURS)] for index, name in enumerate(models)}
    return found | {name: CONTROL_COLOURS.get(name, "--c-other") for name in controls}


def placeholder(index: int) -> str:
    """A colour no plot would use by chance, to be replaced by a CSS variable once the plot is text."""
    return f"#0{index:04x}7"


def with_variables(svg: str, variables: Sequence[str]) -> str:
    """An SVG with the placeholders turned into CSS variables."""
    for index, variable in enumerate(variables):
        svg = svg.replace(placeholder(index), f"var({variable})")
    return svg
