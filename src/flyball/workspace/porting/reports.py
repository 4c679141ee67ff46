"""What was brought over, count by count."""

import msgspec

_MOST_NAMED = 200


class Count(msgspec.Struct, kw_only=True):
    """How many of a kind there are in the source, and how many of these are here now."""

    source: int = 0
    here: int = 0


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import found and did.

    Attributes:
        source: The store.
        counts: By kind.
        differences: What of the source is not here, or is here otherwise; in words.
        notes: What is worth knowing but no loss.
        left_out: How many differences were not named.
    """

    source: str
    counts: dict[str, Count] = {}
    differences: list[str] = []
    notes: list[str] = []
    left_out: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything is here as it is there."""
        return not self.differences

    def add(self, kind: str, *, source: int = 0, here: int = 0) -> None:
        """Count."""
        count = self.counts.setdefault(kind, Count())
        count.source += source
        count.here += here

    def differ(self, text: str) -> None:
        """Name a difference."""
        if len(self.differences) < _MOST_NAMED:
            self.differences.append(text)
        else:
            self.left_out += 1

    def note(self, text: str) -> None:
        """Name something worth knowing, once."""
        if text not in self.notes and len(self.notes) < _MOST_NAMED:
            self.notes.append(text)


def draw_report(report: ImportReport) -> str:
    """Return a report in words."""
    width = max((len(kind) for kind in report.counts), default=0)
    lines = [f"{report.source}", f"{'':{width}}  {'source':>12} {'here':>12}"]
    for kind, count in report.counts.items():
        mark = "" if count.source == count.here else "  !"
        lines.append(f"{kind:{width}}  {count.source:>12,} {count.here:>12,}{mark}")
    lines += [f"note: {text}" for text in report.notes]
    lines += [f"differs: {text}" for text in report.differences]
    if report.left_out:
        lines.append(f"differs: and {report.left_out:,} more")
    lines.append("all of it is here" if report.is_complete else "not all of it is here as it is there")
    return "\n".join(lines)
