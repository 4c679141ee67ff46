"""Population stability index, and how large chance alone can make it."""

from collections.abc import Sequence
from functools import lru_cache
from math import log, log1p, sqrt
from statistics import NormalDist

CONVENTIONAL_LIMIT = 0.2
"""The customary border of a large shift; Siddiqi, Credit Risk Scorecards (2006), draws them at 0.10 and 0.25."""

FALSE_ALARM_RATE = 1e-4
"""How often one evaluation of one monitor may fire by chance: about once in a year of hourly evaluations."""

_SPARSE = 5.0  # Cochran's rule (Biometrics 10, 1954): a cell with fewer expected rows is too thin for chi-square.
_SMOOTHING = 0.5  # Half a row in each cell, Jeffreys' prior, so that an empty cell gives no infinity.


def compute_psi(expected: Sequence[float], observed: Sequence[float]) -> float:
    """Compare two distributions over the same cells: the sum of ``(q - p) ln(q / p)``.

    It is the symmetric divergence of Kullback and Leibler (Ann. Math. Stat. 22, 1951). Half a row is added to
    each cell of both, at the scale of the smaller sample, so that a cell that is empty in both adds nothing.

    Args:
        expected: Rows in each cell of the reference, not all zero.
        observed: Rows in each cell now, in the same order, not all zero.
    """
    rows_expected, rows_observed = sum(expected), sum(observed)
    scale = min(rows_expected, rows_observed)
    total = scale + _SMOOTHING * len(expected)
    psi = 0.0
    for before, now in zip(expected, observed, strict=True):
        p = (before * scale / rows_expected + _SMOOTHING) / total
        q = (now * scale / rows_observed + _SMOOTHING) / total
        psi += (q - p) * log(q / p)
    return psi


def pool_sparse(expected: Sequence[float], observed: Sequence[float]) -> tuple[list[float], list[float]]:
    """Pour the cells in which too few rows are expected into one, so that chance is predictable.

    The pooled cell stays a cell of its own: a category or a null that training never had still shows in it.
    """
    rows_expected = sum(expected)
    scale = min(rows_expected, sum(observed)) / rows_expected if rows_expected else 0.0
    kept_expected, kept_observed = [], []
    pooled_expected = pooled_observed = 0.0
    for before, now in zip(expected, observed, strict=True):
        if before * scale >= _SPARSE:
            kept_expected.append(before)
            kept_observed.append(now)
        else:
            pooled_expected += before
            pooled_observed += now
    if pooled_expected or pooled_observed:
        kept_expected.append(pooled_expected)
        kept_observed.append(pooled_observed)
    return kept_expected, kept_observed


def chance_limit(cells: int, rows_expected: float, rows_observed: float, false_alarm_rate: float) -> float:
    """Return the index that two samples of one distribution exceed with the given probability.

    Without drift the index is ``(1/N + 1/M)`` times a chi-square with ``cells - 1`` degrees of freedom (Yurdakul,
    Statistical Properties of Population Stability Index, Western Michigan University, 2018).
    """
    if cells < 2:
        return 0.0
    return chi_square_quantile(1 - false_alarm_rate, cells - 1) * (1 / rows_observed + 1 / rows_expected)


@lru_cache(maxsize=4096)
def chi_square_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of chi-square: exact for 1 and 2 degrees, else by Wilson and Hilferty (PNAS 17, 1931).

    Their formula is high by at most 9% as far out as one in ten millions, so limits err on the quiet side.
    """
    if degrees == 1:
        return NormalDist().inv_cdf((1 + probability) / 2) ** 2
    if degrees == 2:
        return -2 * log1p(-probability)
    part = 2 / (9 * degrees)
    return degrees * (1 - part + NormalDist().inv_cdf(probability) * sqrt(part)) ** 3
