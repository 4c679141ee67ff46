"""Our figures beside the peers' or the physical limit, one script each: ``python -m benchmarks.NAME``."""
