"""The predictor of a live view: what the browser may change about it, between one pair and the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from crosspol.inference.backends import Backend
from crosspol.inference.engines import ENGINES, BackendName, make_backend, say_exports
from crosspol.inference.fitting import Fit
from crosspol.inference.items import Ready
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult

__all__ = ["Engine", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What may change between pairs.

    iters: refinements, >= 1.
    scale: of width and height that the network sees, in (0, 1].
    backend: what runs the network.
    """

    iters: int
    scale: float = 1.0
    backend: BackendName = "auto"


class Engine:
    """Predicts with settings that may differ from pair to pair; backends are kept once made.

    Args:
        predictor: with its backend as it was made.
        backend: name of that backend.
        tell: called with a line before something takes long, and where confidence is not to be taken at its word.
    """

    def __init__(
        self, predictor: StereoPredictor, backend: BackendName = "auto", tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.predictor = predictor
        self.first = Settings(predictor.iters, 1.0, backend)
        """What it begins with."""
        self._tell = tell
        self._noted: set[str] = set()
        self._made: dict[BackendName, Backend] = {backend: predictor.backend}
        say_exports(predictor.backend, tell)

    @property
    def backends(self) -> tuple[BackendName, ...]:
        """Those that can be chosen: the first one, and on a CPU, where its network is at hand, all installed ones."""
        names: list[BackendName] = [self.first.backend]
        network = getattr(self._made[self.first.backend], "network", None)
        # The other engines would take a network off its GPU.
        if network is not None and next(network.parameters()).device.type == "cpu":
            names += [name for name in ("auto", "torch", "openvino", "onnxruntime") if _installed(name)]
        return tuple(dict.fromkeys(names))

    def predict(self, ready: Ready, settings: Settings) -> StereoResult:
        """Predict one pair.

        Raises:
            UsageError: what was asked for cannot be.
            FloatingPointError: the network's output is not finite.
        """
        self._note(settings)
        backend = self._backend(settings.backend)
        self.predictor.iters = settings.iters
        self.predictor.backend = Fit(settings.scale).around(backend)
        result = self.predictor.estimate(ready.inputs).pair(0)
        return replace(result, calibration=ready.calibration, polarization=ready.polarization)

    def _note(self, settings: Settings) -> None:
        """Say, once, why confidence is not that of the fit with these settings."""
        judge = self.predictor.confidence
        note = None if judge is None else judge.note(settings.iters, ("--scale",) if settings.scale != 1 else ())
        if note is not None and note not in self._noted:
            self._noted.add(note)
            self._tell(note)

    def _backend(self, name: BackendName) -> Backend:
        if name not in self._made:
            first = self._made[self.first.backend]
            made = make_backend(name, first.network, "cpu")  # type: ignore[attr-defined]
            say_exports(made, self._tell)
            self._made[name] = made
        return self._made[name]


def _installed(name: str) -> bool:
    return name == "auto" or ENGINES[name].installed
