"""Dagster in one process, every result kept by its file-system IO manager; the fan with its multiprocess executor."""

import logging
import sys
from pathlib import Path

from dagster import DagsterInstance, execute_job, fs_io_manager, job, multiprocess_executor, op, reconstructable

logging.disable(logging.WARNING)
Path("dagster_home").mkdir(exist_ok=True)
RESOURCES = {"io_manager": fs_io_manager.configured({"base_dir": "dagster_home/values"})}
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def instance() -> DagsterInstance:
    return DagsterInstance.from_ref(
        __import__("dagster._core.instance.ref", fromlist=["InstanceRef"]).InstanceRef.from_dir("dagster_home")
    )


def plain(function: object, name: str) -> object:
    """Make an op of a function whose annotations Dagster would take for types of its own."""
    copy = type(function)(function.__code__, function.__globals__, name, function.__defaults__)
    return op(name=name)(copy)


def six() -> None:
    import work

    @op
    def load():
        return work.load("data/rows.csv")

    validate, split, train = plain(work.validate, "validate"), plain(work.split, "split"), plain(work.train, "train")
    evaluate, save = plain(work.evaluate, "evaluate"), plain(work.save, "save")

    @job(resource_defs=RESOURCES)
    def whole():
        parts = split(validate(load()))
        model = train(parts)
        save(model, evaluate(model, parts))

    whole.execute_in_process(instance=instance(), run_config=QUIET)


def chain() -> None:
    import light

    add = plain(light.add, "add")

    @op
    def zero():
        return 0

    @job(resource_defs=RESOURCES)
    def whole():
        value = zero()
        for index in range(100):
            value = add.alias(f"add{index}")(value)

    whole.execute_in_process(instance=instance(), run_config=QUIET)


@op
def _join(values):
    import light

    return light.join(values)


def squaring(index):
    import light

    source = f"def square(base):\n    return light.square(base, {index})"
    names = {"light": light}
    exec(source, names)
    return names["square"]


@job(resource_defs=RESOURCES, executor_def=multiprocess_executor.configured({"max_concurrent": 2}))
def fan_job():
    import light

    base = plain(light.start, "start")()
    squares = []
    for index in range(100):
        squares.append(plain(squaring(index), f"square{index}")(base))
    _join(squares)


def fan() -> None:
    with instance() as home:
        execute_job(reconstructable(fan_job), instance=home, run_config=QUIET, raise_on_error=True)


def handover() -> None:
    import work

    make, change, total = plain(work.make, "make"), plain(work.change, "change"), plain(work.total, "total")

    @job(resource_defs=RESOURCES)
    def whole():
        total(change(make()))

    whole.execute_in_process(instance=instance(), run_config=QUIET)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
