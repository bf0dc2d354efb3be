"""The command line: parses, calls one function, prints. No logic, and nothing heavy before a command runs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from oubliette.errors import UserError

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 done, 1 the verdict is negative, 2 bad input (one line on stderr), 3 could not tell, 130 interrupted.
    """
    from oubliette.cli.app import app

    try:
        with _warnings_in_one_line():
            code = app(args=arguments, prog_name="oubliette", standalone_mode=False)
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _interrupted()
    except PermissionError as error:
        return _refuse(f"{error.filename or 'a file'}: {error.strerror or error}")
    except Exception as error:
        if _is_abort(error):
            return _interrupted()
        line = _usage(error)
        if line is None:
            raise
        return _refuse(line)
    if code == INTERRUPTED:  # some versions of typer turn the interrupt into this exit code themselves
        return _interrupted()
    return code if isinstance(code, int) else 0


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """This package's own warnings are for users: what they say, and not where in the code they were said."""
    original = warnings.formatwarning

    def one_line(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category.__module__.partition(".")[0] != "oubliette":
            return original(message, category, filename, lineno, line)
        return f"oubliette: {' '.join(str(message).split())}\n"

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = original


def _refuse(message: str) -> int:
    print(f"oubliette: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _interrupted() -> int:
    print("oubliette: interrupted", file=sys.stderr)
    return INTERRUPTED


def _is_abort(error: Exception) -> bool:
    import typer

    return isinstance(error, typer.Abort)


def _usage(error: Exception) -> str | None:
    """The line for a wrong option, argument or value; None for what is no user's error."""
    describe = getattr(error, "format_message", None)
    if callable(describe):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return f"{describe()}{hint}"
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}, found {first['input']!r}"
    return None
