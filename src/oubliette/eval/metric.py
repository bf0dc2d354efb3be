"""A metric: what it needs, its values an item, which way is better, and a figure with an interval."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.registry import Registry
from oubliette.eval.statistics import CONFIDENCE, wilson

__all__ = [
    "METRICS",
    "Figure",
    "Items",
    "Metric",
    "Seen",
    "by_metric",
    "interval_of",
    "number",
    "open_metric",
    "resampled",
]

_PLACE = "oubliette.eval.text.metrics"
_DRAWS = 2000


@dataclass(frozen=True)
class Items:
    """What a metric saw of one set of one model: a value an item, booleans or floats (n,).

    `chance` is what a model that knows nothing would reach, where that is known; `note` what must be said.
    """

    names: tuple[str, ...]
    values: np.ndarray
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A metric's figure of one row of an evaluation on one set, with its 95 % interval and its items' values.

    `better` is "higher", "lower", or the number that it should be near to ("0", "0.5"); `interval` says how
    the ends were found. None where a number is not finite or nothing bounds it.
    """

    row: str
    metric: str
    set: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    interval: str
    better: str
    chance: float | None = None
    note: str = ""
    items: dict[str, float | None] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.value is None:
            return "not finite"
        ends = "" if self.low is None or self.high is None else f" [{number(self.low)}, {number(self.high)}]"
        return number(self.value) + ends


@dataclass(frozen=True)
class Seen:
    """What a figure may be made of: a metric's own `Items` by set, and gold's and the base's.

    `subject` is the base itself, to be asked.
    """

    own: Mapping[str, Items]
    gold: Mapping[str, Items] | None
    base: Mapping[str, Items]
    subject: Any


class Metric(ABC):
    """What is asked of a model (`observe`, while its weights are in place) and what figures that makes.

    A class attribute `better` has the direction of what was to be forgotten and of what must stay, apart by a
    slash where they differ ("lower/higher"). `needs_gold` says that figures are made against a model that
    never knew what was to be forgotten. The first paragraph of a metric's docstring is its line in
    `oubliette ls metrics`.
    """

    better: ClassVar[str]
    needs_gold: ClassVar[bool] = False
    #: As it was asked for: "mia_min_k:0.2".
    name: str

    @classmethod
    def open(cls, argument: str | None) -> Metric:
        """The metric with what follows ":" in its name; UserError where it takes nothing."""
        if argument is not None:
            raise UserError(f"metric: takes nothing after ':', found {argument!r}")
        return cls()

    @abstractmethod
    def check(self, sets: Mapping[str, Sequence[Any]]) -> list[str]:
        """UserError where the sets lack what the metric cannot do without; a line for each set left out."""

    @abstractmethod
    def observe(self, subject: Any) -> dict[str, Items]:
        """Values by set; the subject's weights may be others once this returns."""

    @abstractmethod
    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """The figures of one row."""

    def direction(self, name: str) -> str:
        """Which way is better on a set."""
        forget, _, kept = self.better.partition("/")
        return forget if name == "forget" or not kept else kept

    def figure(
        self,
        row: str,
        name: str,
        items: Items,
        estimate: tuple[float, float | None, float | None],
        interval: str,
        note: str = "",
    ) -> Figure:
        """A figure of a set; numbers that are not finite are None."""
        value, low, high = (None if one is None else _finite(one) for one in estimate)
        return Figure(
            row,
            self.name,
            name,
            value,
            low,
            high,
            len(items.values),
            interval,
            self.direction(name),
            items.chance,
            note or items.note,
            {key: _finite(each) for key, each in zip(items.names, items.values.tolist(), strict=True)},
        )


#: Each class is a `Metric`; other packages bring some by entry points of the group "oubliette.metrics".
METRICS: Registry[type[Metric]] = Registry(
    "metric",
    {
        "mcq": f"{_PLACE}.choices:Choices",
        "mcq_norm": f"{_PLACE}.choices:ChoicesByLength",
        "mcq_letter": f"{_PLACE}.choices:ChoicesByLetter",
        "open_qa": f"{_PLACE}.open_qa:OpenQA",
        "probability": f"{_PLACE}.probability:Probability",
        "probability_choice": f"{_PLACE}.probability:ProbabilityAmongChoices",
        "truth_ratio": f"{_PLACE}.truth_ratio:TruthRatio",
        "forget_quality": f"{_PLACE}.truth_ratio:ForgetQuality",
        "rouge_l": f"{_PLACE}.rouge:RougeRecall",
        "rouge_l_f1": f"{_PLACE}.rouge:RougeF1",
        "rouge_l_base": f"{_PLACE}.anchored:AnchoredRecall",
        "model_utility": f"{_PLACE}.utility:ModelUtility",
        "verbmem": f"{_PLACE}.muse:VerbMem",
        "knowmem": f"{_PLACE}.muse:KnowMem",
        "privleak": f"{_PLACE}.privleak:PrivLeak",
        "mia_loss": f"{_PLACE}.membership:Loss",
        "mia_zlib": f"{_PLACE}.membership:Zlib",
        "mia_min_k": f"{_PLACE}.membership:MinK",
        "mia_min_k_plus": f"{_PLACE}.membership:MinKPlus",
        "mia_reference": f"{_PLACE}.membership:Reference",
        "mia_grad_norm": f"{_PLACE}.membership:GradNorm",
        "exact_memorisation": f"{_PLACE}.memorisation:ExactMemorisation",
        "extraction_strength": f"{_PLACE}.memorisation:ExtractionStrength",
        "perplexity": f"{_PLACE}.fluency:Perplexity",
        "template_ratio": f"{_PLACE}.template_ratio:TemplateRatio",
        "repetition": f"{_PLACE}.fluency:Repetition",
        "fluency": f"{_PLACE}.fluency:Fluency",
    },
)


def number(value: float) -> str:
    """A figure as it is printed: three digits after the point, or three that count."""
    small = value != 0 and abs(value) < 0.001
    return (
        f"{value:.2e}"
        if small or abs(value) >= 1e5
        else f"{value:.3f}"
        if abs(value) < 100
        else f"{value:.1f}"
    )


def by_metric(figures: Sequence[Figure]) -> dict[tuple[str, str, str], dict[str, Figure]]:
    """Figures by (metric, set, which way is better), and of each by row."""
    found: dict[tuple[str, str, str], dict[str, Figure]] = {}
    for one in figures:
        found.setdefault((one.metric, one.set, one.better), {})[one.row] = one
    return found


def open_metric(spec: str) -> Metric:
    """A metric by its name, or "name:argument"; UserError for an unknown one."""
    name, _, argument = spec.partition(":")
    metric = METRICS.get(name).open(argument or None)
    metric.name = spec
    return metric


def interval_of(
    values: np.ndarray, aggregate: Callable[..., np.ndarray] = np.mean
) -> tuple[tuple[float, float | None, float | None], str]:
    """(value, low, high) of items' values (n,), and how: Wilson's of booleans, else a bootstrap of the items.

    `aggregate(values, axis=...)` makes the value.
    """
    if values.dtype == bool:
        return (float(values.mean()), *wilson(int(values.sum()), len(values))), "Wilson"
    if len(values) < 2 or not np.isfinite(values).all():
        return (float(aggregate(values, axis=-1)), None, None), ""
    found = aggregate(values[resampled(len(values))], axis=-1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return (float(aggregate(values, axis=-1)), float(low), float(high)), "bootstrap"


def resampled(n: int, draws: int = _DRAWS, seed: int = 0) -> np.ndarray:
    """Indices (draws, n) of bootstrap samples of n items, the same on every call."""
    return np.random.default_rng(seed).integers(n, size=(draws, n))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
