"""Writing files: whole or not at all, and one line where the disk takes no more."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "draft",
    "make_parents",
    "parents",
    "refusal",
    "remove_empty",
    "share",
    "write_bytes",
    "write_tensors",
    "writing",
]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CAUSES = {
    *_FULL,
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOENT, errno.EEXIST),
    *(errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.ENOTEMPTY, errno.ETXTBSY),
}
_IN_TEXT = re.compile(r"\(os error (\d+)\)")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Make what keeps `path` from being written a UserError: its name, the reason and what space is free.

    A full disk or quota, a read-only mount, no permission, a name that is too long.
    """
    try:
        yield
    except Exception as error:
        line = refusal(error, path)
        if line is None:
            raise
        raise UserError(line) from error


def refusal(error: BaseException, path: Path | str | None = None) -> str | None:
    """The line for an error of the file system while `path` was written; None for any other error.

    Without a `path` the error is one that names its file itself, or is a full disk.
    """
    code = _code(error)
    if code not in _CAUSES:
        return None
    reason = os.strerror(code)
    named = error.filename if isinstance(error, OSError) else None
    if code in _FULL:
        target = path if path is not None else named
        if target is None:
            return f"standard output or a scratch file: cannot be written ({reason})"
        folder = _existing(Path(os.fsdecode(target)))
        free = f"{_size(shutil.disk_usage(folder).free)} are free in {folder}"
        return f"{os.fsdecode(target)}: cannot be written ({reason}; {free}); make room and try again"
    if path is None:
        return None if named is None else f"{os.fsdecode(named)}: {reason}"
    if named is None or Path(os.fsdecode(named)).absolute().parent == Path(path).absolute().parent:
        return f"{path}: cannot be written ({reason})"
    return f"{path}: cannot be written ({os.fsdecode(named)}: {reason})"


@contextmanager
def draft(path: Path | str) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` when the block ends well, and goes if it does not.

    The folder must be there. UserError where the disk takes no more; what was at `path` is then as it was.
    """
    path = Path(path)
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        try:
            yield Path(name)
            share(name)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically, making its folder: the old content or the new, never half."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with draft(path) as temporary:
        temporary.write_bytes(content)


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous CPU tensors that share no memory as safetensors, atomically; the folder is there."""
    from safetensors.torch import save_file

    with draft(path) as temporary:
        save_file(dict(tensors), temporary, metadata=None if metadata is None else dict(metadata))


@contextmanager
def parents(path: Path | str) -> Iterator[None]:
    """The folders that lead to `path`, made where they are missing, which is said on standard error.

    Where the block fails they go again, as far as they are empty.
    """
    made = make_parents(path)
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


def make_parents(path: Path | str) -> list[Path]:
    """Make the missing folders that lead to `path` and say so on standard error; those made, inner first."""
    folder, missing = Path(path).absolute().parent, []
    with writing(path):
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        if not missing:
            return []
        try:
            missing[0].mkdir(parents=True, exist_ok=True)
        except OSError:
            remove_empty(missing)
            raise
    if os.environ.get("RANK", "0") == "0":
        print(f"oubliette: made the folder {Path(path).parent} for {Path(path).name}", file=sys.stderr)
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, inner first, that `make_parents` made and in which nothing lies."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def share(path: Path | str) -> None:
    """Give a file made with private permissions (0600) those that an ordinarily written file has."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def _code(error: BaseException) -> int | None:
    """The errno of an error of the file system, however it is wrapped."""
    if isinstance(error, OSError):
        return error.errno
    if type(error).__name__ == "SafetensorError":  # of its Rust side only the text is left
        found = _IN_TEXT.search(str(error))
        return int(found[1]) if found else None
    cause = error.__cause__ or error.__context__
    code = None if cause is None else _code(cause)
    return code if code in _FULL else None  # only a full disk is surely what the outer error is about


def _existing(path: Path) -> Path:
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _size(count: int) -> str:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
