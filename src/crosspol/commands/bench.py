"""`crosspol bench`: how fast networks are on this machine, and by which engine."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from tqdm import tqdm
from tyro.conf import arg

from crosspol.commands.flags import read_size, write_size
from crosspol.commands.folders import make_output_folder
from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError, did_you_mean, words_of
from crosspol.inference.backends import Backend, Precision, Refinement
from crosspol.inference.engines import ENGINES, make_backend
from crosspol.inference.graph import Graph, example_tensors
from crosspol.inference.timing import Timing, measured, peak_resident
from crosspol.io.atomic import write_bytes
from crosspol.model import CrossPol
from crosspol.model.config import PRESETS
from crosspol.model.precision import processor_computes_bfloat16, processor_computes_int8
from crosspol.model.shipped import packaged_weights
from crosspol.training.provenance import device_name, source_commit, versions
from crosspol.weights import load_network

_MOST_ROUNDS = 15
# Of the time limit, what preparing may take: an engine that exports needs 10 s and more a network and size.
_PREPARING = 0.6
# A process that got less than this of the time on its threads shared the machine with others.
_ALONE = 0.85


@dataclass(frozen=True)
class BenchOptions:
    """Print how fast networks are on this machine, by engine, size and threads, and which engine to use.

    For example:
        crosspol bench
        crosspol bench --weights crosspol raft-stereo --sizes 320x240 640x480 --threads 1 2 --output bench.json

    Everything that is compared runs in turn, once a round, so that a machine that slows down slows all of it. Rounds
    are made until --seconds have passed, at least one.
    """

    weights: Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]")] = ("crosspol",)
    """Presets (weights that ship, else random ones, which take as long), or folders of weights."""
    sizes: Annotated[tuple[str, ...], arg(metavar="WxH [WxH ...]")] = ("320x240", "640x480")
    """Image sizes, px."""
    threads: Annotated[tuple[int, ...], arg(metavar="INT [INT ...]", help_behavior_hint="(default: all cores)")] = ()
    """Numbers of threads."""
    backends: Annotated[
        tuple[str, ...], arg(metavar="NAME [NAME ...]", help_behavior_hint="(default: all there are)")
    ] = ()
    """Engines: torch, openvino, onnxruntime."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: each network's)")] = None
    """Iterations of the disparity."""
    seconds: float = 300.0
    """Time limit; what has begun is finished."""
    output: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write the table, and what it was measured on, as JSON."""


@dataclass
class Case:
    """A network at a size, by an engine."""

    network: str
    backend: str
    precision: Precision
    size: tuple[int, int]
    threads: int
    engine: Backend
    inputs: StereoInputs
    iters: int
    timing: Timing = field(default_factory=Timing)
    peak: int = 0

    @property
    def name(self) -> str:
        """What to call it while it runs."""
        return f"{self.network} {write_size(self.size)}, {self.backend} {self.precision}, {_counted(self.threads)}"

    @property
    def question(self) -> tuple[str, tuple[int, int], int]:
        """What engines compete for: network, size, threads."""
        return self.network, self.size, self.threads

    def run(self) -> None:
        """Predict one pair."""
        torch.set_num_threads(self.threads)
        self.engine.run(self.inputs, Refinement(self.iters))

    def row(self) -> dict[str, Any]:
        """Return what was measured."""
        least, most = self.timing.spread
        return {
            "network": self.network, "backend": self.backend, "precision": self.precision,
            "size": write_size(self.size), "threads": self.threads, "iterations": self.iters,
            "median_ms": 1e3 * self.timing.seconds, "least_ms": 1e3 * least, "most_ms": 1e3 * most,
            "pairs_per_second": 1 / self.timing.seconds, "processor_ms": 1e3 * self.timing.processor_seconds,
            "peak_mib": self.peak / 2**20, "rounds": len(self.timing.wall),
        }  # fmt: skip


def bench(options: BenchOptions) -> None:
    """Measure, print the table and what follows from it.

    Raises:
        UsageError: something that was asked for does not exist.
    """
    sizes, threads, backends = _check(options)
    if options.output is not None:
        make_output_folder(options.output.parent)
    networks = {name: _network(name) for name in options.weights}
    before = torch.get_num_threads()
    begin = time.monotonic()
    try:
        cases, left_out = _prepare(networks, sizes, threads, backends, options, begin)
        _rounds(cases, begin + options.seconds)
    finally:
        torch.set_num_threads(before)
    shared = any(case.timing.processor_seconds < _ALONE * case.timing.seconds for case in cases if case.threads == 1)
    lines = [*_table(cases), *(f"left out: {line}" for line in left_out), "", *_advice(cases)]
    if shared:
        lines.append(
            "This machine was not idle: processor ms, what this process computed, is what one thread takes where it is."
        )
    print("\n".join(lines))
    if options.output is not None:
        record = {
            "command": "crosspol " + " ".join(sys.argv[1:]), "machine": _machine(), "idle": not shared,
            "rows": [case.row() for case in cases], "left_out": left_out, "options": _plain(options),
        }  # fmt: skip
        write_bytes(options.output, (json.dumps(record, indent=2) + "\n").encode())
        print(options.output)


def _check(options: BenchOptions) -> tuple[list[tuple[int, int]], list[int], list[str]]:
    """Return sizes, threads and engines."""
    sizes = []
    for text in options.sizes:
        try:
            sizes.append(read_size(text))
        except ValueError as error:
            raise UsageError(f"--sizes: {words_of(error)}") from error
    if not sizes or not options.weights:
        raise UsageError("--sizes, --weights: got none, wanted at least one")
    cores = os.cpu_count() or 1
    threads = list(options.threads) or [torch.get_num_threads()]
    for count in threads:
        if not 1 <= count <= cores:
            raise UsageError(f"--threads: got {count}, wanted 1 to {cores}, the cores of this machine")
    for name in options.backends:
        if name not in ENGINES:
            raise UsageError(
                f"--backends: got {name}, wanted some of {', '.join(ENGINES)}{did_you_mean(name, ENGINES)}"
            )
        if not ENGINES[name].installed:
            raise UsageError(
                f"--backends: got {name}, which is not installed, wanted pip install 'crosspol[{ENGINES[name].extra}]'"
            )
    if options.iters is not None and options.iters < 1:
        raise UsageError(f"--iters: got {options.iters}, wanted at least 1")
    if not options.seconds > 0:
        raise UsageError(f"--seconds: got {options.seconds:g}, wanted more than 0")
    backends = list(options.backends) or [name for name, engine in ENGINES.items() if engine.installed]
    return sizes, threads, backends


def _network(name: str) -> CrossPol:
    if name in PRESETS and not packaged_weights(name).is_dir():
        return CrossPol.from_preset(name).eval()
    return load_network(name)


def _precisions(backend: str) -> Iterator[Precision]:
    """Yield what an engine computes in on this processor without emulating it."""
    yield "float32"
    if backend in ("torch", "openvino") and processor_computes_bfloat16():
        yield "bfloat16"
    if backend == "openvino" and processor_computes_int8():
        yield "int8"


def _bar(steps: Sequence[Any], description: str, unit: str) -> Any:
    """Return a progress bar; in a log it is a line every 15 s, not one for each case."""
    every = 0.1 if sys.stderr.isatty() else 15.0
    return tqdm(steps, desc=description, unit=unit, file=sys.stderr, mininterval=every, maxinterval=every)


def _prepare(
    networks: dict[str, CrossPol],
    sizes: list[tuple[int, int]],
    threads: list[int],
    backends: list[str],
    options: BenchOptions,
    begin: float,
) -> tuple[list[Case], list[str]]:
    """Return what can be measured, each run once already, and lines about what cannot."""
    wanted = [
        (name, backend, precision, size, count)
        for size in sorted(sizes)
        for count in threads
        for backend in backends
        for precision in _precisions(backend)
        for name in networks
    ]
    cases: list[Case] = []
    left_out: list[str] = []
    with _bar(wanted, "preparing", "case") as progress:
        for name, backend, precision, size, count in progress:
            config = networks[name].config
            label = f"{name} {write_size(size)}, {backend} {precision}, {_counted(count)}"
            progress.set_postfix_str(label, refresh=sys.stderr.isatty())
            if cases and time.monotonic() - begin > _PREPARING * options.seconds:
                left_out.append(f"{label}: no time to prepare it, wanted more --seconds")
                continue
            torch.set_num_threads(count)
            inputs = StereoInputs(**example_tensors(Graph("quad" if config.fusion.sites else "none", size, 1), config))
            try:
                engine = make_backend(backend, networks[name], "cpu", precision)
                case = Case(name, backend, precision, size, count, engine, inputs, options.iters or config.iters)
                case.run()
                case.peak = peak_resident(case.run)
            except Exception as error:  # whatever an engine raises: the others are measured
                left_out.append(f"{label}: {words_of(error)}")
                continue
            cases.append(case)
    if not cases:
        raise UsageError(f"nothing could be measured: {left_out[0]}")
    return cases, left_out


def _rounds(cases: list[Case], until: float) -> None:
    """Measure all of them in turn, at least once, until the time is up."""
    with _bar(range(_MOST_ROUNDS), "measuring", "round") as progress:
        for round_ in progress:
            begun = time.monotonic()
            for case in cases:
                progress.set_postfix_str(case.name, refresh=sys.stderr.isatty())
                measured(case.run, case.timing)
            now = time.monotonic()
            if now + (now - begun) > until and round_ < _MOST_ROUNDS - 1:
                break


def _table(cases: Iterable[Case]) -> list[str]:
    columns = (
        f"{'network':<22}{'size':>9} {'threads':>7}  {'backend':<12}{'precision':<9}{'iters':>6}{'median ms':>11}"
        f"{'least - most':>20}{'pairs/s':>9}{'processor ms':>14}{'peak MiB':>10}"
    )
    lines = [f"{_machine()['processor']}, torch {torch.__version__}", columns]
    for case in sorted(cases, key=lambda case: (*case.question, case.timing.seconds)):
        row = case.row()
        spread = f"{row['least_ms']:.1f} - {row['most_ms']:.1f}"
        lines.append(
            f"{row['network']:<22}{row['size']:>9} {row['threads']:>7}  {row['backend']:<12}{row['precision']:<9}"
            f"{row['iterations']:>6}{row['median_ms']:>11.1f}{spread:>20}{row['pairs_per_second']:>9.2f}"
            f"{row['processor_ms']:>14.1f}{row['peak_mib']:>10.0f}"
        )
    return lines


def _advice(cases: list[Case]) -> list[str]:
    """Say which engine to use, by network, size and threads: in float32, and where rounding is worth it."""
    lines = []
    for question in dict.fromkeys(case.question for case in cases):
        rivals = [case for case in cases if case.question == question]
        exact = min((case for case in rivals if case.precision == "float32"), key=_seconds, default=None)
        best = min(rivals, key=_seconds)
        network, size, threads = question
        words = f"{network}, {write_size(size)}, {_counted(threads)}: "
        if exact is not None:
            words += f"--backend {exact.backend}"
        if best is not exact:
            times = "" if exact is None else f", {_seconds(exact) / _seconds(best):.1f} times as fast"
            words += (
                f"{'' if exact is None else '; '}rounded: --backend {best.backend} --precision {best.precision}{times}"
            )
        lines.append(words)
    if ENGINES["openvino"].installed:
        lines.append("--backend auto takes torch, and on a CPU openvino from the 51st pair of a size on.")
    else:
        lines.append("--backend auto takes torch: openvino is not installed (pip install 'crosspol[openvino]').")
    return lines


def _seconds(case: Case) -> float:
    # On a machine that others use as well, one thread's own time is the fairer judge.
    return case.timing.processor_seconds if case.threads == 1 else case.timing.seconds


def _machine() -> dict[str, Any]:
    return {
        "processor": device_name(torch.device("cpu")), "cores": os.cpu_count(), "system": platform.platform(),
        "capability": torch.backends.cpu.get_cpu_capability(), "bfloat16": processor_computes_bfloat16(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None, "commit": source_commit(), **versions(),
    }  # fmt: skip


def _plain(options: BenchOptions) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}


def _counted(threads: int) -> str:
    return f"{threads} thread{'' if threads == 1 else 's'}"
