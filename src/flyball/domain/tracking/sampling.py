"""Which steps of long histories a chart shows."""

from collections.abc import Sequence


def sample_steps(histories: Sequence[Sequence[int]], limit: int) -> list[int]:
    """Return at most about ``limit`` steps, evenly chosen from all, with each history's first and last one.

    Args:
        histories: The steps of each, in order.
        limit: More than that are thinned out; the ends of each history come on top.
    """
    every = sorted({step for steps in histories for step in steps})
    if len(every) <= limit:
        return every
    stride = (len(every) - 1) / max(limit - 1, 1)
    chosen = {every[round(place * stride)] for place in range(limit)}
    chosen.update(end for steps in histories if steps for end in (steps[0], steps[-1]))
    return sorted(chosen)
