"""The cases of `benchmarks.features`."""
