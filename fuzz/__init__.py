"""Fuzzing of every reader of CrossPol: `python -m fuzz --help`."""
