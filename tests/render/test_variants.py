from collections.abc import Mapping
from pathlib import Path

import pytest

from crosspol.errors import UsageError
from crosspol.render.variants import VARIANTS, Variant, choose_variant, find_libllvm

CUDA, LLVM, SCALAR = VARIANTS
OLD, NEW = Path("/usr/lib/libLLVM-14.so"), Path("/usr/lib/libLLVM-19.so")


class Machine:
    """Stands in for the process that tries a variant: says what renders, and remembers what was tried."""

    def __init__(self, *renders: tuple[str, Path | None]) -> None:
        self.renders, self.tried = renders, list[tuple[str, Path | None]]()

    def __call__(self, name: str, environment: Mapping[str, str]) -> str:
        library = environment.get("DRJIT_LIBLLVM_PATH")
        self.tried.append((name, Path(library) if library else None))
        return "" if self.tried[-1] in self.renders else "LLVM ERROR: Cannot select: fminimum"


def test_cuda_is_preferred() -> None:
    machine = Machine((CUDA, None), (LLVM, NEW), (SCALAR, None))
    assert choose_variant(probe=machine, libraries=[NEW]) == Variant(CUDA)


def test_llvm_follows_cuda_and_old_libraries_are_never_loaded() -> None:
    machine = Machine((LLVM, NEW), (SCALAR, None))
    assert choose_variant(probe=machine, libraries=[NEW, OLD]) == Variant(LLVM, str(NEW))
    assert (LLVM, OLD) not in machine.tried


def test_a_library_without_a_version_in_its_name_is_tried() -> None:
    own = Path("/opt/mine/libLLVM.so")
    assert choose_variant(probe=Machine((LLVM, own)), libraries=[own]).libllvm == str(own)


@pytest.mark.parametrize(
    ("libraries", "said"),
    [([], "got no libLLVM"), ([OLD], "got LLVM 14"), ([NEW], "cannot be used")],
)
def test_falls_back_to_scalar_and_says_in_one_line_what_to_install(libraries: list[Path], said: str) -> None:
    variant = choose_variant(probe=Machine((SCALAR, None)), libraries=libraries)
    assert variant.name == SCALAR
    assert variant.libllvm is None
    assert said in variant.note
    assert "libllvm19" in variant.note
    assert "\n" not in variant.note


def test_insisting_on_llvm_without_a_usable_library_is_refused_by_package_name() -> None:
    with pytest.raises(UsageError, match=r"LLVM 14.*libllvm19"):
        choose_variant(LLVM, Machine((SCALAR, None)), [OLD])


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'llvm'.*wanted auto"):
        choose_variant("llvm", Machine())


def test_nothing_renders() -> None:
    with pytest.raises(UsageError, match="scalar_spectral_polarized does not render here"):
        choose_variant(probe=Machine(), libraries=[])


def test_named_library_is_the_only_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", "/somewhere/libLLVM.so")
    assert find_libllvm() == [Path("/somewhere/libLLVM.so")]


def test_without_mitsuba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'crosspol\[render\]'"):
        choose_variant()


def test_what_was_chosen_renders_on_this_machine() -> None:
    pytest.importorskip("mitsuba")
    assert choose_variant().name in VARIANTS
