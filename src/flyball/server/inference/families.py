"""Counters, gauges and histograms of one process, their sum over several, and the text that Prometheus reads.

Counters and histograms of the gateway's processes add up; gauges stand beside each other, told apart by the process.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import msgspec

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES = 1_000
"""A family keeps no more than this many series; the oldest leave, such as those of versions long gone."""
_Labels = tuple[str, ...]


class Family(msgspec.Struct):
    """All series of one name.

    Attributes:
        name: Of the metric.
        kind: ``counter``, ``gauge`` or ``histogram``.
        about: What it counts, in words.
        labels: The names of the labels.
        series: By the labels' values: one number, or each bucket's count with the sum as the last.
        bounds: The upper bounds of a histogram's buckets, but for the last, which has none.
    """

    name: str
    kind: str
    about: str
    labels: _Labels = ()
    series: dict[_Labels, list[float]] = {}
    bounds: tuple[float, ...] = ()

    def add(self, labels: _Labels, value: float = 1.0) -> None:
        """Add to a counter."""
        found = self.series.get(labels)
        if found is None:
            found = self._begin(labels, 1)
        found[0] += value

    def set(self, labels: _Labels, value: float) -> None:
        """Set a gauge."""
        self.series[labels] = [value]

    def observe(self, labels: _Labels, value: float) -> None:
        """Count a value into its bucket."""
        found = self.series.get(labels)
        if found is None:
            found = self._begin(labels, len(self.bounds) + 2)
        found[bisect_left(self.bounds, value)] += 1.0
        found[-1] += value

    def _begin(self, labels: _Labels, length: int) -> list[float]:
        if len(self.series) >= MOST_SERIES:
            del self.series[next(iter(self.series))]
        return self.series.setdefault(labels, [0.0] * length)

    def merge(self, series: Mapping[_Labels, Sequence[float]]) -> None:
        """Add the series of another process; a gauge of the same labels is replaced."""
        for labels, values in series.items():
            if len(labels) != len(self.labels):
                continue  # of another release
            mine = self.series.get(labels)
            if self.kind == "gauge" or mine is None or len(mine) != len(values):
                self.series[labels] = list(values)
            else:
                self.series[labels] = [a + b for a, b in zip(mine, values, strict=True)]

    def write(self) -> Iterable[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for values, numbers in sorted(self.series.items()):
            labels = list(zip(self.labels, values, strict=True))
            if self.kind == "histogram":
                yield from self._write_histogram(labels, numbers)
            else:
                yield _sample(self.name, labels, numbers[0])

    def _write_histogram(self, labels: list[tuple[str, str]], numbers: Sequence[float]) -> Iterable[str]:
        total = 0.0
        for bound, count in zip((*(f"{bound:g}" for bound in self.bounds), "+Inf"), numbers, strict=False):
            total += count
            yield _sample(f"{self.name}_bucket", [*labels, ("le", bound)], total)
        yield _sample(f"{self.name}_sum", labels, numbers[-1])
        yield _sample(f"{self.name}_count", labels, total)


def _sample(metric: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    text = ",".join(f'{name}="{_escape(label)}"' for name, label in labels)
    number = int(value) if value == int(value) else value
    return f"{metric}{{{text}}} {number}" if text else f"{metric} {number}"


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
