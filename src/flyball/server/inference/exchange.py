"""One request on its way through the gateway: what is watched of it, and what is done after its answer is out."""

from collections.abc import Callable, Mapping

from flyball.core.clock import monotonic_s


class Exchange:
    """What is noted of one request; see `Telemetry.finish` for what becomes of it.

    Attributes:
        protocol: How it came, such as ``open_inference``.
        endpoint: Who was asked, once that is known to exist.
        rows: How many rows it held.
        version: The number of the version that answered.
        prediction_id: The first row's prediction.
        headers: The request's headers by their names in small letters.
        started_s: When it began, by `monotonic_s`.
        together: How many requests its call of the model answered; 0 for all of them but one.
        stages: The end of each stage, by name and `monotonic_s`.
    """

    __slots__ = (
        "_later",
        "_notes",
        "endpoint",
        "headers",
        "prediction_id",
        "protocol",
        "rows",
        "stages",
        "started_s",
        "together",
        "version",
    )

    def __init__(self, protocol: str = "other", headers: Mapping[bytes, bytes] | None = None) -> None:
        self.protocol = protocol
        self.endpoint = ""
        self.rows = 0
        self.version = ""
        self.prediction_id = ""
        self.headers = headers or {}
        self.started_s = monotonic_s()
        self.together = 1
        self.stages: list[tuple[str, float]] = []
        self._later: list[Callable[[], None]] = []
        self._notes: list[Callable[[], None]] = []

    def mark(self, stage: str) -> None:
        """Note that a stage ended now; the next one begins."""
        self.stages.append((stage, monotonic_s()))

    def defer(self, work: Callable[[], None]) -> None:
        """Keep work for after the answer."""
        self._later.append(work)

    def note(self, tell: Callable[[], None]) -> None:
        """Keep what shall be counted: by the thread that counts, which may be another one than that which answers."""
        self._notes.append(tell)

    def tell_notes(self) -> None:
        """Count what was kept."""
        for tell in self._notes:
            tell()

    @property
    def has_deferred(self) -> bool:
        """Whether work was kept for after the answer."""
        return bool(self._later)

    def run_deferred(self) -> None:
        """Do what was kept; call it once the answer is out."""
        for work in self._later:
            work()
