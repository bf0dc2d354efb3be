"""The command line: parses, calls one function, prints. No logic, and nothing heavy before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from oubliette.core.errors import UserError, advice, advise, phases, tidy

__all__ = ["main"]

BAD_INPUT, INTERNAL, INTERRUPTED, CLOSED = 2, 4, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 done, 1 the verdict is negative, 2 bad input or a full disk (one line on stderr), 3 could not tell, 4 a
    fault of the program (one line, the traceback in a file), 130 interrupted, 141 nobody reads the output.
    """
    from oubliette.commands import app

    given = list(sys.argv[1:] if arguments is None else arguments)
    advise("")
    _print_anything()
    try:
        with _warnings_in_one_line():
            code = app.app(args=given, prog_name="oubliette", standalone_mode=False)
            sys.stdout.flush()
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        return _closed()
    except SystemExit as stop:  # what typer makes of a broken pipe: 1, which would be a negative verdict
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        return _closed()
    except Exception as error:
        if _is_abort(error):
            # An end of file where none is asked for is a fault, which typer takes for one at a question.
            cause = error.__cause__
            return _internal(cause, given) if isinstance(cause, EOFError) else _interrupted()
        line = _usage(error) or _shortage(error)
        return _internal(error, given) if line is None else _refuse(line)
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
        return f"oubliette: {tidy(str(message))}\n"

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = original


def _print_anything() -> None:
    """What the terminal's encoding cannot show is shown escaped: a name with odd bytes stops no command."""
    for stream in (sys.stdout, sys.stderr):
        change = getattr(stream, "reconfigure", None)
        if change is not None:
            change(errors="backslashreplace")


def _refuse(message: str) -> int:
    print(f"oubliette: {tidy(message)}", file=sys.stderr)
    return BAD_INPUT


def _interrupted() -> int:
    line = advice()
    print(f"oubliette: interrupted{'; ' if line else ''}{line}", file=sys.stderr)
    return INTERRUPTED


def _closed() -> int:
    """Whoever read the output is gone (`| head`)."""
    _drop_output()
    return CLOSED


def _drop_output() -> None:
    """Standard output to nowhere: it takes no more, and the interpreter's last flush must not fail too."""
    with suppress(OSError, ValueError):  # an output that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _internal(error: Exception, given: list[str]) -> int:
    """One line for what is no fault of the user's: what was being done, and where the traceback is."""
    import shlex
    import tempfile
    import traceback

    from oubliette.commands import app

    text = "".join(traceback.format_exception(error))
    typed = shlex.join(["oubliette", *given])
    where = ""
    if not app.debug():
        try:
            handle, where = tempfile.mkstemp(prefix="oubliette-traceback-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(f"{typed}\n\n{text}")
        except OSError:
            where = ""
    if not where:
        print(text, file=sys.stderr)
    command = " ".join(["oubliette", *app.command_of(given)])
    doing = ", ".join(phases(error))
    said = f"{type(error).__name__}{': ' if str(error) else ''}{error}"
    print(
        f"oubliette: internal error in `{command}`{' while ' if doing else ''}{tidy(doing)}: {tidy(said)}; "
        + (f"traceback in {where} (oubliette --debug prints it)" if where else "traceback above"),
        file=sys.stderr,
    )
    return INTERNAL


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


def _shortage(error: Exception) -> str | None:
    """The line where disk, permission or memory is what was lacking; None where it was something else."""
    from oubliette.core.writing import refusal

    line = refusal(error)
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    if line is None and (isinstance(error, MemoryError) or of_torch):
        line = f"out of memory ({tidy(str(error))[:200]}); ask for less at once, or take a smaller model"
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    return f"{', '.join(phases(error))}: {line}" if line and phases(error) else line
