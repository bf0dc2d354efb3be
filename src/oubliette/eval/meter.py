"""The metrics of an evaluation: rows are asked while their weights are in place, figures come at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from oubliette.eval.metric import Figure, Items, Metric, Seen
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.utility import Kept

__all__ = ["Meter", "Reader"]


class Reader(Protocol):
    """What an evaluation reads of its rows beside what judges see."""

    def look(self, sampler: CachedSampler) -> None:
        """Ask one row; its weights may be others once this returns."""
        ...

    def figures(self, row: str, base: str, gold: str | None) -> list[Figure]:
        """The figures of a row that was looked at, held against those of the base and of gold."""
        ...

    def kept(self, row: str, base: str) -> list[tuple[str, Kept]]:
        """What else must be left for a model not to count as destroyed, by name."""
        ...


class Meter:
    """Asks rows through metrics (`Reader`); `subject_of` makes of a row what metrics are asked about.

    `fluency`, where there is one, tells gibberish from answers for the verdict: it is observed with the
    others, and is no figure unless it is one of them.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        subject_of: Callable[[CachedSampler], Any],
        fluency: Any = None,
    ) -> None:
        self.metrics, self.fluency = list(metrics), fluency
        self._subject_of = subject_of
        self._subjects: dict[str, Any] = {}
        self._seen: dict[str, dict[int, dict[str, Items]]] = {}

    def look(self, sampler: CachedSampler) -> None:
        """Observe every metric."""
        subject = self._subject_of(sampler)
        asked = [*self.metrics, *([] if self.fluency is None else [self.fluency])]
        self._subjects[sampler.name] = subject
        self._seen[sampler.name] = {id(metric): metric.observe(subject) for metric in asked}

    def figures(self, row: str, base: str, gold: str | None) -> list[Figure]:
        """Metric by metric."""
        return [
            figure
            for metric in self.metrics
            for figure in metric.figures(row, self._of(metric, row, base, gold))
        ]

    def kept(self, row: str, base: str) -> list[tuple[str, Kept]]:
        """The share of fluent answers to what must be kept."""
        if self.fluency is None:
            return []
        found = self.fluency.kept(self._of(self.fluency, row, base, None))
        return [] if found is None else [("fluency", found)]

    def _of(self, metric: Metric, row: str, base: str, gold: str | None) -> Seen:
        key = id(metric)
        return Seen(
            self._seen[row][key],
            None if gold is None else self._seen[gold][key],
            self._seen[base][key],
            self._subjects[base],
        )
