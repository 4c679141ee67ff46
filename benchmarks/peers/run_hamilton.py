"""Hamilton with its cache, which is a folder of pickles and an SQLite file."""

import logging
import sys

from hamilton import ad_hoc_utils, driver

logging.disable(logging.WARNING)


def build(module: object, *wanted: str, **inputs: object) -> None:
    driver.Builder().with_modules(module).with_cache(path="hamilton").build().execute(list(wanted), inputs=inputs)


def six() -> None:
    import work

    build(
        ad_hoc(work.load, work.validate, work.split, work.train, work.evaluate, work.save), "save", path="data/rows.csv"
    )


def ad_hoc(*functions: object) -> object:
    return ad_hoc_utils.create_temporary_module(*functions, module_name="steps")


def chain() -> None:
    lines = ["def v0() -> int:\n    return 0\n"]
    lines += [f"def v{n + 1}(v{n}: int) -> int:\n    return light.add(v{n})\n" for n in range(100)]
    build(written(lines), "v100")


def fan() -> None:
    lines = ["def base() -> int:\n    return light.start()\n"]
    lines += [f"def s{n}(base: int) -> int:\n    return light.square(base, {n})\n" for n in range(100)]
    names = [f"s{n}" for n in range(100)]
    parameters, listed = ", ".join(f"{name}: int" for name in names), ", ".join(names)
    lines.append(f"def joined({parameters}) -> int:\n    return light.join([{listed}])\n")
    build(written(lines), "joined")


def written(lines: list[str]) -> object:
    from pathlib import Path

    Path("written.py").write_text("import light\n\n\n" + "\n\n".join(lines))
    import written

    return written


def handover() -> None:
    import work

    build(ad_hoc(work.make, work.change, work.total), "total")


sys.path.insert(0, ".")
globals()[sys.argv[1]]()
