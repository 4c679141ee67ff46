"""A helper that a step calls."""


def ratio(part: float, whole: float) -> float:
    return part / whole
