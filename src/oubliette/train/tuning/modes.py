"""What fine-tuning may move, opened on a model and taken back bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from oubliette.core.validation import StrictModel, validated
from oubliette.train.freeze import apply_freeze, read_names
from oubliette.train.scope import select
from oubliette.train.trainable import touch
from oubliette.train.tuning import MODES
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.train.tuning.budget import Budget

__all__ = [
    "CrossAttention",
    "Full",
    "Mode",
    "Scoped",
    "TextEncoder",
    "TextFacing",
    "Trained",
    "make_mode",
    "open_mode",
    "rewording",
]

Frozen = Iterable[str] | Path | None
Reword = Callable[[str], str]


@dataclass
class Trained:
    """What an open mode trains, and how to look at the model meanwhile.

    `prompts` puts the mode's own words into a caption or prompt ("a car" to "a <concept>"); where a mode
    has none, prompts stay as they are.
    """

    weights: Weights
    element_masks: Mapping[str, Tensor] = field(default_factory=dict)
    prompts: Reword = str
    rewords: bool = False
    """Whether `prompts` changes anything, so that the data must be reworded too."""
    changes: Callable[[], dict[str, Tensor]] | None = None
    kept: bool = False

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained parameters by name."""
        return dict(zip(self.weights.names, self.weights.parameters, strict=True))

    def plain(self) -> AbstractContextManager[None]:
        """A block in which the model has its usual modules and names, adapters merged: to draw, to save."""
        return self.weights.plain()

    def delta(self) -> dict[str, Tensor]:
        """What the model's own tensors have moved by, by name, fp32 (an adapter's product where there is
        one).
        """
        return dict(self.weights.delta()) if self.changes is None else self.changes()

    def keep(self) -> None:
        """Leave the model as it is when the block ends, adapters merged, a new token in its tokenizer."""
        self.kept = True


class Mode(Protocol):
    """One thing that may be moved; `Options` are its own, the rest is the budget's."""

    name: ClassVar[str]
    kind: ClassVar[Literal["relearn"]]
    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    Options: ClassVar[type[Any]]

    def prompts(self) -> Reword | None:
        """How prompts differ from anyone's, known before it runs; None where they do not."""

    def open(
        self, model: Backend, budget: Budget, frozen: list[str] | None
    ) -> AbstractContextManager[Trained]:
        """Make the model ready to be trained; on leaving the block every bit is as before, unless kept."""


class NoOptions(StrictModel):
    """A mode without options."""


class Scoped:
    """Trains the tensors of a scope (`oubliette.train.scope`) as they are, less the frozen ones."""

    name: ClassVar[str] = ""
    kind: ClassVar[Literal["relearn"]] = "relearn"
    about: ClassVar[str] = ""
    paper: ClassVar[str] = "Suriyakumar et al., Unstable Unlearning, 2024 (2410.08074)"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "gradients"})
    Options: ClassVar[type[StrictModel]] = NoOptions

    def __init__(self, options: Any = None, *, scope: str | None = None) -> None:
        self.options = options
        self.scope = scope or self.name

    def prompts(self) -> Reword | None:
        """Prompts stay as they are."""
        return None

    @contextmanager
    def open(self, model: Backend, budget: Budget, frozen: list[str] | None) -> Iterator[Trained]:
        """Copies the trained tensors alone; UserError where the scope is empty or frozen as a whole."""
        named = apply_freeze(select(model, self.scope), frozen, known=model.tensors())
        trained = Trained(Weights(named))
        try:
            yield trained
        finally:
            if not trained.kept:
                trained.weights.restore()
            touch(model)


class Full(Scoped):
    """The whole network, without the text encoder."""

    name: ClassVar[str] = "full"
    about: ClassVar[str] = "fine-tunes every tensor of the network"


class CrossAttention(Scoped):
    """Every tensor of the layers that read the text."""

    name: ClassVar[str] = "xattn"
    about: ClassVar[str] = "fine-tunes the cross-attention"


class TextFacing(Scoped):
    """The tensors most erasers edit."""

    name: ClassVar[str] = "xattn-kv"
    about: ClassVar[str] = "fine-tunes the keys and values of the cross-attention"


class TextEncoder(Scoped):
    """The text encoders alone."""

    name: ClassVar[str] = "text-encoder"
    about: ClassVar[str] = "fine-tunes the text encoders, and nothing that draws"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "gradients", "text"})


def make_mode(mode: str, options: Mapping[str, Any] | None = None) -> Mode:
    """The mode of that name with these options; "re:PATTERN" trains the tensors whose names hold the pattern.

    UserError for an unknown name or option.
    """
    if mode.startswith("re:"):
        validated(NoOptions, options or {}, f"mode '{mode}'")
        made: Mode = Scoped(scope=mode)
        return made
    kind = MODES.get(mode)
    made = kind(validated(kind.Options, options or {}, f"mode '{mode}'"))
    return made


def rewording(mode: str, options: Mapping[str, Any] | None = None) -> Reword | None:
    """How prompts are put to a model tuned in this mode, known beforehand; None: as they are."""
    return make_mode(mode, options).prompts()


@contextmanager
def open_mode(
    model: Backend,
    mode: str,
    budget: Budget,
    *,
    frozen: Frozen = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Trained]:
    """Open a mode on a model: the block trains what it is given, and the model comes back bit for bit.

    `frozen` are names of tensors that must not move, or a file of them (`oubliette.train.freeze`). UserError
    where nothing is left to train.
    """
    names = read_names(frozen) if isinstance(frozen, str | Path) else frozen
    with make_mode(mode, options).open(model, budget, None if names is None else list(names)) as trained:
        yield trained
