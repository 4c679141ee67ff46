"""Runs one pipeline of a project folder in a process of its own and prints what came of it as JSON."""

import json
import sys
from pathlib import Path


def main() -> None:
    options = json.loads(sys.argv[1])
    root, home = Path(options["root"]), Path(options["home"])
    params = options.get("params", {})
    if options.get("unchanged", True):
        from flyball.domain.pipelines.unchanged import check_unchanged

        found = check_unchanged(home, root, options["pipeline"], params)
        if found is not None:
            _print(found, sorted(sys.modules))
            return
    from flyball.core.clock import SystemClock
    from flyball.domain.journal.service import Journal
    from flyball.domain.pipelines.service import PipelineService
    from flyball.domain.tracking.service import TrackingService
    from flyball.engines.local import LocalEngine
    from flyball.storage.blobs import LocalBlobStore
    from flyball.storage.db import Database

    # Byte code is told apart by whole seconds and sizes alone: an edit within a second would not be seen.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root))
    module = __import__("project")
    db, clock, blobs = Database(f"sqlite:///{home}/flyball.db"), SystemClock(), LocalBlobStore(home / "blobs")
    journal = Journal(db, clock)
    tracking = TrackingService(db, journal, clock, blobs)
    engine = LocalEngine(options.get("workers"))
    services = getattr(module, "SERVICES", {})
    tables = [str(root / source) for source in options.get("tables", [])]
    pipelines = PipelineService(db, journal, clock, tracking, blobs, engine, services, root, tables=lambda: tables)
    _print(pipelines.run(getattr(module, options["pipeline"]), params), [])


def _print(result: object, modules: list[str]) -> None:
    import msgspec

    plain = msgspec.to_builtins(result)
    print(json.dumps({"result": plain, "modules": modules}))


main()
