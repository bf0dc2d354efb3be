"""What a class or function says of itself, read from its source: listing names need not import torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["described"]

_ROOT = Path(__file__).parents[2]


def described(target: str, wanted: Iterable[str] = ()) -> dict[str, str] | None:
    """The docstring ("__doc__") and the `wanted` string attributes of this package's "module:Name".

    An attribute comes from the class or the first base that has it. None where the source does not say all
    of it as plain text: the caller then has to import the thing.
    """
    module, _, name = target.partition(":")
    found: dict[str, str] = {}
    _collect(module, name, found)
    return found if {"__doc__", *wanted} <= found.keys() else None


def _collect(module: str, name: str, found: dict[str, str]) -> None:
    """Add what `name` in `module` says and what its bases say besides; what is there already stays."""
    for node in _tree(module):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    _collect(node.module, alias.name, found)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = node.value.func  # `name = Class()` says what its class does
            if isinstance(made, ast.Name) and any(getattr(at, "id", None) == name for at in node.targets):
                _collect(module, made.id, found)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            doc = ast.get_docstring(node)
            if doc is not None:
                found.setdefault("__doc__", doc)
            if isinstance(node, ast.ClassDef):
                for key, value in _strings(node):
                    found.setdefault(key, value)
                for base in node.bases:
                    base = base.value if isinstance(base, ast.Subscript) else base
                    if isinstance(base, ast.Name):
                        _collect(module, base.id, found)


def _strings(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for line in node.body:
        target: ast.expr | None = line.target if isinstance(line, ast.AnnAssign) else None
        if isinstance(line, ast.Assign) and len(line.targets) == 1:
            target = line.targets[0]
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield target.id, value.value


@cache
def _tree(module: str) -> list[ast.stmt]:
    """The statements of a module of this package; none of any other's."""
    if module.partition(".")[0] != "oubliette":
        return []
    place = _ROOT.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
