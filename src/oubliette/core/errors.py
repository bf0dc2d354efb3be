"""The one error a user can cause, how texts stand in its line, and what was being done when another came."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

__all__ = ["UserError", "advice", "advise", "doing", "phases", "shown", "suggest", "tidy"]

_LISTED = 24
_LONGEST = 80  # characters of a user's text in a message
_LONGEST_WORD = 300  # of a path or number, which stands without quotes
_LONGEST_LINE = 2000
_PHASES = "oubliette_phases"
# An apostrophe between letters ("the model's") neither opens nor closes a quotation.
_QUOTED = re.compile(r"""(?<!\w)'((?:[^']|(?<=\w)'(?=\w))*)'(?!\w)|(?<![\w'])"([^"]*)"(?!\w)""")
_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
_advice = ""


class UserError(Exception):
    """Input that cannot be used: one line saying what, where, what was found and what would be right.

    The command line prints the line and ends with exit code 2; nothing half-written is left behind. Quoted
    texts in it are cut at 80 characters, and control characters are shown escaped.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(tidy(str(message)))


def shown(text: object, limit: int = _LONGEST) -> str:
    """A user's text as it may stand in a line: cut at `limit` characters, control characters escaped."""
    plain = _escaped(str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def tidy(message: str) -> str:
    """A message in one line: quoted texts cut at 80 characters, controls escaped, nothing without end."""
    quoted = _QUOTED.sub(
        lambda found: found[0][0] + shown(found[1] if found[1] is not None else found[2]) + found[0][-1],
        message,
    )
    line = _escaped(" ".join(quoted.split()))
    line = _WORD.sub(lambda found: shown(found[0]), line)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def suggest(name: str, options: Iterable[str]) -> str:
    """Name the option nearest to `name`, then the known ones: "did you mean 'x'? known: a, b, c"."""
    known = sorted(set(options))
    name = name[:_LONGEST]  # nothing that long is near to anything, and comparing takes its time
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        folded = {option.lower(): option for option in known}
        near = [folded[match] for match in get_close_matches(name.lower(), folded, n=1, cutoff=0.5)]
    listed = ", ".join(known[:_LISTED]) + (f", ... ({len(known)} in all)" if len(known) > _LISTED else "")
    return (f"did you mean '{near[0]}'? " if near else "") + f"known: {listed or 'none'}"


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Remember, on an error that leaves the block, what was being done, for the line of an internal error."""
    try:
        yield
    except Exception as error:
        error.__dict__.setdefault(_PHASES, []).insert(0, what)
        raise


def phases(error: BaseException) -> list[str]:
    """What was being done when an error came, the widest first."""
    return list(error.__dict__.get(_PHASES, ()))


def advise(line: str) -> None:
    """What an interrupted command is to say besides that it was: what was kept, and how to go on with it.

    The last call counts; an empty line takes it back.
    """
    global _advice
    _advice = line


def advice() -> str:
    """The line that `advise` was last given."""
    return _advice


def _escaped(text: str) -> str:
    """Every character that a terminal would act on, or cannot show, as its escape."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )
