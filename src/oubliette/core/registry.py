"""Names for interchangeable parts, imported when they are first asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from oubliette.core.errors import UserError, suggest
from oubliette.core.source_docs import described

__all__ = ["Registry", "import_target"]

T = TypeVar("T")


def import_target(target: str) -> Any:
    """What "package.module:Attribute" names; ImportError or AttributeError where there is no such thing."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


class Registry(Generic[T]):
    """A kind of part ("method") and its members, each "package.module:Attribute" or the object itself.

    Listing names imports nothing; `get` imports the one module that is asked for. Other installed packages
    add members by entry points of the group "oubliette.<kind>s" ("oubliette.methods"), which are looked up
    when a name is not among the package's own, or all are listed.
    """

    def __init__(self, kind: str, targets: Mapping[str, str | T]) -> None:
        self.kind = kind
        self._targets: dict[str, str | T] = dict(targets)
        self._foreign: dict[str, str] = {}
        self._looked = False

    def get(self, name: str) -> T:
        """Return the member called `name`; UserError with the nearest known name where there is none."""
        self.check(name)
        target = self._targets[name]
        if isinstance(target, str):
            target = self._import(name, target)
            self._targets[name] = target
        return target

    def target(self, name: str) -> str | T:
        """What a name stands for, unimported, to be listed in another registry too."""
        self.check(name)
        return self._targets[name]

    def about(self, name: str, *attributes: str) -> dict[str, str]:
        """A member's docstring ("__doc__") and the named attributes, which are strings.

        Read from the source where the member is this package's own; imported where that does not do.
        """
        target = self.target(name)
        own = isinstance(target, str) and name not in self._foreign
        found = described(cast(str, target), attributes) if own else None
        if found is None:
            member = self.get(name)
            found = {key: str(getattr(member, key, None) or "") for key in ("__doc__", *attributes)}
        return found

    def check(self, name: str) -> None:
        """UserError where no member is called `name`; imports nothing."""
        if name not in self:
            raise UserError(f"no {self.kind} is called '{name}'; {suggest(name, self.names())}")

    def build(self, spec: str | Mapping[str, Any]) -> Any:
        """Construct the member a recipe asks for: a name, or a mapping with `name` and the member's options.

        Options are checked against the member's constructor: an unknown one is a UserError with the nearest
        match.
        """
        name, options = self.parse(spec)
        from oubliette.core.validation import call_checked

        return call_checked(cast(Any, self.get(name)), options, f"{self.kind} '{name}'")

    def parse(self, spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Split a recipe's entry into the member's name (checked) and its options."""
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise UserError(
                f"{self.kind}: 'name' is missing, found {dict(options)}; {suggest('', self.names())}"
            )
        self.check(name)
        return name, options

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._look()
        return sorted(self._targets)

    def register(self, name: str, target: str | T) -> None:
        """Add a member, or replace the one of that name."""
        self._targets[name] = target

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        if name not in self._targets:
            self._look()
        return name in self._targets

    def _look(self) -> None:
        """Take in what other packages bring, once; a name that is taken stays the package's own."""
        if self._looked:
            return
        self._looked = True
        plural = f"{self.kind[:-1]}ies" if self.kind.endswith("y") else f"{self.kind}s"
        for point in entry_points(group=f"oubliette.{plural.replace(' ', '_')}"):
            brought = point.dist.name if point.dist else "a package"
            if point.name in self._targets:
                warnings.warn(
                    f"{brought} brings a {self.kind} called '{point.name}', which there is already: left out",
                    stacklevel=3,
                )
                continue
            self._targets[point.name] = point.value
            self._foreign[point.name] = brought

    def _import(self, name: str, target: str) -> T:
        try:
            return cast(T, import_target(target))
        except (ImportError, AttributeError) as error:
            if name not in self._foreign:
                raise
            raise UserError(
                f"{self.kind} '{name}' is brought by {self._foreign[name]}, whose {target} cannot be "
                f"imported ({' '.join(str(error).split())})"
            ) from error
