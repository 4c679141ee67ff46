"""Kedro: every result a pickle file; the fan with its process runner."""

import logging
import sys

from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import ParallelRunner, SequentialRunner
from kedro_datasets.pickle import PickleDataset

logging.disable(logging.WARNING)


def kept(*names: str) -> dict:
    return {name: PickleDataset(filepath=f"kedro/{name}.pkl", backend="pickle") for name in names}


def six() -> None:
    import work

    steps = [
        node(work.load, "path", "load"),
        node(work.validate, "load", "validate"),
        node(work.split, "validate", "split"),
        node(lambda parts: work.train(parts), "split", "train", name="train"),
        node(work.evaluate, ["train", "split"], "evaluate"),
        node(work.save, ["train", "evaluate"], "save"),
    ]
    names = ("load", "validate", "split", "train", "evaluate", "save")
    SequentialRunner().run(pipeline(steps), DataCatalog({"path": MemoryDataset("data/rows.csv"), **kept(*names)}))


def chain() -> None:
    import light

    steps = [node(light.add, f"v{index}", f"v{index + 1}", name=f"add{index}") for index in range(100)]
    names = [f"v{index}" for index in range(1, 101)]
    SequentialRunner().run(pipeline(steps), DataCatalog({"v0": MemoryDataset(0), **kept(*names)}))


def gather(*values: int) -> int:
    import light

    return light.join(list(values))


def fan() -> None:
    from functools import partial, update_wrapper

    import light

    steps = [node(light.start, None, "base")]
    for index in range(100):
        one = update_wrapper(partial(light.square, value=index), light.square)
        steps.append(node(one, "base", f"s{index}", name=f"square{index}"))
    names = [f"s{index}" for index in range(100)]
    steps.append(node(gather, names, "joined"))
    ParallelRunner(max_workers=2).run(pipeline(steps), SharedMemoryDataCatalog(kept("base", *names, "joined")))


def handover() -> None:
    import work

    steps = [
        node(work.make, None, "make"),
        node(work.change, "make", "change"),
        node(work.total, "change", "total"),
    ]
    SequentialRunner().run(pipeline(steps), DataCatalog(kept("make", "change", "total")))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
