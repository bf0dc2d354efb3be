"""Numbers as people read them, on terminals, on pages and in tables: "10 %", "−12", "4 % [1, 9]".

What machines read (JSON, CSV, values of options) keeps plain ASCII numbers and does not come from here.
"""

from __future__ import annotations

import re

__all__ = ["ends", "number", "percent", "plain", "unbroken"]

NBSP = "\u00a0"
_BRACKETS = re.compile(r"[\[(][^\[\]()]{1,14}[\])]")


def plain(text: str) -> str:
    """A formatted number without a sign before a zero, and with a true minus elsewhere."""
    return text.lstrip("-+") if not text.strip("-+0.") else text.replace("-", "−")


def number(share: float, form: str = ".0f") -> str:
    """A share in per cent without its unit, in any format of numbers: "4", "−12", "+3" (for "+.0f")."""
    return plain(f"{100 * share:{form}}")


def percent(share: float, form: str = ".0f") -> str:
    """A share in per cent: "4 %". The space is a plain one, which `unbroken` turns for pages."""
    return f"{number(share, form)} %"


def ends(low: float | None, high: float | None, form: str = ".0f") -> str:
    """The ends of an interval of shares, in per cent: "[1, 9]"; an end that is None is open, "[−∞, ∞]"."""
    left = "−∞" if low is None else number(low, form)
    return f"[{left}, {'∞' if high is None else number(high, form)}]"


def unbroken(text: object) -> str:
    """The text for a page: no line ends before a "%", inside an interval or inside a short bracket."""
    whole = _BRACKETS.sub(lambda found: found.group().replace(" ", NBSP), str(text))
    return whole.replace(" %", NBSP + "%")
