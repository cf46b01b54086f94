"""Tables, not tests: each module is run from the repository root, `python -m benchmarks.NAME`."""
