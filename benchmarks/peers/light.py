"""Steps that do next to nothing, so that only the tool's own work is measured."""


def add(value: int) -> int:
    return value + 1


def start() -> int:
    return 1


def square(base: int, value: int) -> int:
    return base + value * value


def join(values: list[int]) -> int:
    return sum(values)
