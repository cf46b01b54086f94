"""Data sets: the scene format, manifests, the layouts of well-known benchmarks, and what a run is trained on."""
