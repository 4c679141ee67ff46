"""Plain Python, nothing kept; 500 MB are handed over as Arrow IPC files; the fan is a process pool."""

import sys


def six() -> None:
    import work

    parts = work.split(work.validate(work.load("data/rows.csv")))
    model = work.train(parts)
    work.save(model, work.evaluate(model, parts))


def chain() -> None:
    import light

    value = 0
    for _ in range(100):
        value = light.add(value)


def fan() -> None:
    from functools import partial
    from multiprocessing import get_context

    import light

    with get_context("fork").Pool(2) as pool:
        light.join(pool.map(partial(light.square, light.start()), range(100)))


def handover() -> None:
    import polars as pl
    import work

    work.make().write_ipc("first.arrow", compression="uncompressed")
    work.change(pl.read_ipc("first.arrow")).write_ipc("second.arrow", compression="uncompressed")
    work.total(pl.read_ipc("second.arrow"))


globals()[sys.argv[1]]()
