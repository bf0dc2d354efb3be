"""A method of continual learning as settings of one loss: which terms it adds, how strongly, towards what."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel, validated

__all__ = ["Method", "OutputTerm", "WeightTerm", "method_names", "read_method"]


class OutputTerm(StrictModel):
    """alpha * D_Phi between the outputs h and a target z, the mean over rows.

    `rows` are the current batch's, or a draw of the buffer of its own. The `target` is the rows' label, the
    logits stored with them, what the model said before this task (`old`, of the current task's rows), or the
    uniform distribution. `space` says what is compared: logits (squared generators alone) or probabilities at
    a `temperature`. `order` "target first" is D(z, h), "output first" D(h, z). `seen` leaves the classes of
    this and later tasks out.
    """

    name: str
    alpha: float = Field(ge=0)
    generator: Literal["squared", "mean squared", "negative entropy"]
    rows: Literal["current", "buffer"] = "buffer"
    target: Literal["label", "stored", "old", "uniform"]
    space: Literal["logits", "probabilities"] = "probabilities"
    order: Literal["target first", "output first"] = "target first"
    temperature: float = Field(default=1.0, gt=0)
    seen: bool = False

    @model_validator(mode="after")
    def _fits(self) -> OutputTerm:
        entropy = self.generator == "negative entropy"
        if self.space == "logits" and (entropy or self.target in ("label", "uniform")):
            raise ValueError("logits are compared by a squared generator, with stored or old ones")
        if self.target == "stored" and self.rows != "buffer":
            raise ValueError("logits are stored with the buffer's rows: rows must be 'buffer'")
        if self.target == "old" and self.rows != "current":
            raise ValueError("old outputs are of the current task's rows: rows must be 'current'")
        if self.target == "label" and self.order == "output first" and entropy:
            raise ValueError("D(h, z) is infinite for a label z: order must be 'target first'")
        return self


class WeightTerm(StrictModel):
    """beta * D_Psi between the weights and those after earlier tasks.

    `quadratic`: Psi = 1/2 theta^T F theta, F the diagonal Fisher at each task's end. `keep` "all" adds a
    divergence for each task, "last" one with F <- decay * F + F_task around the last weights; `prior` is
    added to every element of F. `gaussian`: the weights are Gaussians, and Psi their log-partition; the
    divergence is KL(q || q_old).
    """

    beta: float = Field(ge=0)
    generator: Literal["quadratic", "gaussian"] = "quadratic"
    keep: Literal["last", "all"] = "last"
    decay: float = Field(default=1.0, ge=0, le=1)
    prior: float = Field(default=0.0, ge=0)


class Method(StrictModel):
    """L = CE + sum of alpha * D_Phi + beta * D_Psi (arXiv 2403.13249): terms on outputs, one on weights."""

    about: str = ""
    output: list[OutputTerm] = Field(default_factory=list)
    weights: WeightTerm | None = None

    @model_validator(mode="after")
    def _names(self) -> Method:
        names = [term.name for term in self.output]
        if len(set(names)) != len(names) or {"current", "weights"} & set(names):
            raise ValueError("each output term has a name of its own, other than 'current' and 'weights'")
        return self

    @property
    def replays(self) -> bool:
        """Whether it needs a buffer."""
        return any(term.rows == "buffer" for term in self.output)

    @property
    def is_bayesian(self) -> bool:
        """Whether its weights are Gaussians."""
        return self.weights is not None and self.weights.generator == "gaussian"


def method_names() -> list[str]:
    """Names of the methods that ship."""
    return list(_shipped())


def read_method(source: str | Path) -> Method:
    """A shipped method by name, or one in a YAML file; UserError for what is wrong in it."""
    text = str(source)
    if text in _shipped():
        return validated(Method, _shipped()[text], f"continual method '{text}'")
    path = Path(source)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"no continual method is called '{text}'; {suggest(text, method_names())}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"continual method {text}: cannot be read ({reason})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"continual method {text}: expected keys with values, found {type(content).__name__}")
    return validated(Method, content, f"continual method {text}")


@cache
def _shipped() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((files("oubliette.continual") / "methods.yaml").read_text("utf-8"))
    return found
