"""What decides in a stream, request by request: from the model as it is then, what is run, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from oubliette.core.validation import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

    from oubliette.backends.base import Backend
    from oubliette.data.questions import QA
    from oubliette.recipe import Recipe

__all__ = ["Asked", "Decision", "Policy", "StatelessPolicy"]


@dataclass(frozen=True)
class Asked:
    """A request as a policy sees it; `number` counts from 1, in the order in which they are run.

    `recipe` is what the stream would run, and names the concepts of a model that draws; `forget` and `retain`
    are the rows of one that answers (else ()). `to_come()` gives the forget rows of the requests not yet
    reached. Inside `before()` the model is the one the stream began with. `compose(method="rmu", set=[...])`
    makes the request's recipe with other options of `oubliette erase`, under the names that a request has.
    """

    number: int
    recipe: Recipe
    forget: Sequence[QA]
    retain: Sequence[QA]
    to_come: Callable[[], Sequence[QA]]
    before: Callable[[], AbstractContextManager[None]]
    compose: Callable[..., Recipe]


@dataclass(frozen=True)
class Decision:
    """What a policy wants run: a recipe, or None for nothing, in which case the request still counts.

    `rows` take the place of the recipe's sets: "forget", "retain" (empty: none). With `from_start` the
    objective's original (NPO's reference, what a retain loss stays near) is the model that the stream began
    with, else the one before this request. `facts` are plain data for the record.
    """

    recipe: Recipe | None
    rows: Mapping[str, Sequence[QA]] = field(default_factory=dict)
    from_start: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class Policy(Protocol):
    """Decides what each request of a stream is answered with; built from its checked `Options`.

    Of the same model, request and state it always decides the same: a stream that was cut short decides
    again. The model is as it was when a method returns.
    """

    name: ClassVar[str]
    """Its name in `oubliette.erase.POLICIES`."""
    Options: type[StrictModel]

    def __init__(self, options: Any) -> None: ...

    def begin(self, model: Backend, recipe: Recipe) -> None:
        """Once, with the model the stream begins with and the recipe of its first request; UserError for what
        does not fit.
        """

    def decide(self, model: Backend, asked: Asked) -> Decision:
        """What is run for a request, with the model as the requests before left it."""

    def done(self) -> None:
        """The last decision is in the model: what is to be remembered of it goes into the state now."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of its state, by name."""

    def facts(self) -> dict[str, Any]:
        """The rest of its state, as plain data that JSON keeps."""

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a state that `tensors` and `facts` gave; after `begin`."""


class StatelessPolicy:
    """A policy that remembers nothing: over it a class has `name`, `decide`, and `Options`, if any."""

    class Options(StrictModel):
        """None."""

    def __init__(self, options: Any) -> None:
        self.options = options

    def begin(self, model: Backend, recipe: Recipe) -> None:
        """Nothing to prepare."""

    def done(self) -> None:
        """Nothing to remember."""

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def facts(self) -> dict[str, Any]:
        """None."""
        return {}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Nothing to take up."""
