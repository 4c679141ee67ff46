"""Progress bars, on standard error so that results on standard output stay clean."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from flyball.domain.pipelines.results import StepResult


class RunBar:
    """Shows how a run goes on; implements the pipelines' `Progress`."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._running: list[str] = []

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def planned(self, run_id: str, steps: Sequence[str]) -> None:
        """See `Progress.planned`."""
        self._task = self._bar.add_task("starting", total=len(steps))

    def started(self, step: str) -> None:
        """See `Progress.started`."""
        self._running.append(step)
        self._show(advance=0)

    def finished(self, result: StepResult) -> None:
        """See `Progress.finished`."""
        if result.name in self._running:
            self._running.remove(result.name)
        self._show(advance=1)

    def _show(self, *, advance: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=", ".join(self._running) or "deciding", advance=advance)


class ReplayBars:
    """Shows how far each policy's life has come; implements the replay's listener."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[present]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def began(self, policies: Sequence[str]) -> None:
        """See `ReplayListener.began`."""
        for policy in policies:
            self._tasks[policy] = self._bars.add_task(policy, total=1.0, present="waiting")

    def moved(self, policy: str, share: float, now: datetime) -> None:
        """See `ReplayListener.moved`."""
        self._bars.update(self._tasks[policy], completed=share, present=f"{now:%Y-%m-%d}")


class RowsBar:
    """Shows how many of some rows are done.

    Args:
        label: What is done with them.
    """

    def __init__(self, label: str) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def tell(self, done: int, of: int) -> None:
        """Show that so many of so many rows are done."""
        if self._task is None:
            self._task = self._bar.add_task("", total=of)
        self._bar.update(self._task, completed=done)


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Show what is being done, as long as the block lasts."""
    with Console(stderr=True).status("beginning") as status:
        yield status.update
