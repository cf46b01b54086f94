"""Which build of Mitsuba can render here: CUDA, LLVM or, slower, the scalar one; and what to install where LLVM lacks.

A libLLVM before 17 does not fail, it aborts the process that uses it ("Cannot select fminimum"). So every variant is
tried in a process of its own before this one commits to it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from crosspol.errors import UsageError

__all__ = ["VARIANTS", "Variant", "activate", "choose_variant", "find_libllvm"]

VARIANTS = ("cuda_ad_mono_polarized", "llvm_ad_mono_polarized", "scalar_spectral_polarized")
"""Fastest first. The scalar one needs no library beyond Mitsuba's own and is several times slower."""

LLVM_MAJOR = 17
"""Oldest LLVM that knows every instruction that Mitsuba 3.9 asks for."""

_INSTALL_LLVM = "apt-get install libllvm19 (or any LLVM from 17 on; DRJIT_LIBLLVM_PATH may name the file)"
_LIBRARY_PATH = "DRJIT_LIBLLVM_PATH"
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/opt/llvm/lib")
_PROBE_SECONDS = 120

# Tracing one ray through a curved and a flat shape makes LLVM select every instruction that it lacks before 17.
_PROBE = """
import sys
import mitsuba as mi
mi.set_variant(sys.argv[1])
scene = mi.load_dict({
    "type": "scene", "integrator": {"type": "path"}, "ball": {"type": "sphere"}, "light": {"type": "constant"},
    "sensor": {"type": "perspective", "film": {"type": "hdrfilm", "width": 2, "height": 2}},
})
import numpy
assert numpy.isfinite(numpy.array(mi.render(scene, spp=1))).all()
print("renders")
"""


@dataclass(frozen=True)
class Variant:
    """A build of Mitsuba that renders on this machine.

    name: one of `VARIANTS`.
    libllvm: the library that the LLVM build is to load; None for the others.
    note: one line for the user on why nothing faster is used; "" where there is nothing to say.
    """

    name: str
    libllvm: str | None = None
    note: str = ""


def choose_variant(
    wanted: str = "auto",
    probe: Callable[[str, Mapping[str, str]], str] | None = None,
    libraries: list[Path] | None = None,
    color: bool = False,
) -> Variant:
    """Find the fastest variant that renders here.

    Args:
        wanted: "auto", or one of `VARIANTS` to insist on it.
        probe: tries a variant under additional environment variables and returns "" or what went wrong; None starts a
            process for it (some seconds a variant).
        libraries: LLVM libraries to try, best first; None takes `find_libllvm()`.
        color: take the spectral builds in place of the monochrome ones.

    Raises:
        UsageError: Mitsuba is not installed, or the variant that was insisted on is unknown or does not render.
    """
    known = tuple(name.replace("_mono_", "_spectral_") for name in VARIANTS) if color else VARIANTS
    if wanted not in ("auto", *known):
        raise UsageError(f"got the variant {wanted!r}, wanted auto, {', '.join(known)}")
    if probe is None:
        if importlib.util.find_spec("mitsuba") is None:
            raise UsageError("rendering needs mitsuba, which is not installed: pip install 'crosspol[render]'")
        probe = _probe
    failures: dict[str, str] = {}
    for name in known if wanted == "auto" else (wanted,):
        for library in _libraries_for(name, libraries):
            failure = probe(name, {} if library is None else {_LIBRARY_PATH: str(library)})
            if not failure:
                # That there is no CUDA is no news; that LLVM lacks costs time and can be helped.
                llvm = failures.get(known[1], "")
                note = f"{llvm}; rendering with {name}, several times slower" if llvm else ""
                return Variant(name, None if library is None else str(library), note)
            failures[name] = f"{name} does not render here: {failure}"
        if name.startswith("llvm"):
            failures[name] = _describe_unusable(find_libllvm() if libraries is None else libraries)
    raise UsageError(" | ".join(failures.values()))


def find_libllvm() -> list[Path]:
    """Return the LLVM libraries of this machine, newest first, or the one that DRJIT_LIBLLVM_PATH names."""
    named = os.environ.get(_LIBRARY_PATH)
    if named:
        return [Path(named)]
    found: dict[Path, Path] = {}
    for folder in map(Path, _LIBRARY_FOLDERS):
        for pattern in ("libLLVM*.so*", "libLLVM*.dylib", "*-linux-gnu/libLLVM*.so*", "llvm*/lib/libLLVM*.so*"):
            for path in folder.glob(pattern):
                # Several names lead to one library.
                found.setdefault(path.resolve(), path)
    return sorted(found.values(), key=lambda path: (_major(path), str(path)), reverse=True)


def activate(variant: Variant, threads: int | None = None) -> Any:
    """Import Mitsuba, select the variant for this process and return the module.

    Args:
        variant: from `choose_variant`.
        threads: CPU threads that render; 1 makes images bitwise repeatable, None takes all.

    Raises:
        UsageError: another LLVM was loaded in this process before.
    """
    if variant.libllvm is not None:
        os.environ[_LIBRARY_PATH] = variant.libllvm
    drjit: Any = import_module("drjit")
    mitsuba: Any = import_module("mitsuba")
    try:
        mitsuba.set_variant(variant.name)
    except ImportError as error:
        raise UsageError(f"{variant.name} cannot be loaded ({str(error).splitlines()[0]})") from error
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    if threads is not None and not variant.name.startswith("cuda"):
        drjit.set_thread_count(threads)
    return mitsuba


def _probe(name: str, environment: Mapping[str, str]) -> str:
    """Render four pixels in another process; return "" or the last thing that it said."""
    return _probe_once(name, tuple(environment.items()))


@cache
def _probe_once(name: str, environment: tuple[tuple[str, str], ...]) -> str:
    # What a machine can do does not change while a process lives, and asking costs seconds.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, name],
            env={**os.environ, **dict(environment)},
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no image after {_PROBE_SECONDS} s"
    if done.returncode == 0 and done.stdout.strip().endswith("renders"):
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with status {done.returncode}"


def _major(path: Path) -> int:
    """Major version of an LLVM library by its name, 0 where the name does not say."""
    numbers = re.findall(r"(?:LLVM[-.]|\.so\.|llvm-?)(\d+)", f"{path} {path.resolve()}")
    return max((int(number) for number in numbers), default=0)


def _libraries_for(name: str, libraries: list[Path] | None) -> list[Path | None]:
    """Return what to load for a variant, best first: None for nothing, libraries too old to work left out."""
    if not name.startswith("llvm"):
        return [None]
    found = find_libllvm() if libraries is None else libraries
    return [path for path in found if _is_new_enough(path)]


def _is_new_enough(path: Path) -> bool:
    """Whether an LLVM library may work: by its version, or because its name does not tell one."""
    return not 0 < _major(path) < LLVM_MAJOR


def _describe_unusable(found: list[Path]) -> str:
    usable = [path for path in found if _is_new_enough(path)]
    if usable:
        return f"{usable[0]} cannot be used by Mitsuba: {_INSTALL_LLVM}"
    if found:
        return f"got LLVM {_major(found[0])} ({found[0]}), wanted {LLVM_MAJOR} or newer: {_INSTALL_LLVM}"
    return f"got no libLLVM: {_INSTALL_LLVM}"
