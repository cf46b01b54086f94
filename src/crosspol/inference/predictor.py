"""NumPy-facing predictor: arrays or files in, disparity out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.arguments import as_array, as_intensity, as_mask, as_polarization, as_view
from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.adaptive import Convergence, check_tolerance
from crosspol.inference.backends import Backend, Precision, Refinement, TorchBackend
from crosspol.inference.confidence import Confidence, ConfidenceKind
from crosspol.inference.engines import BackendName, make_backend
from crosspol.inference.result import StereoResult, check_calibration
from crosspol.io.images import read_image
from crosspol.model import CrossPol, CrossPolConfig
from crosspol.model.network import State, Watch
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind
from crosspol.weights import load_network

Image: TypeAlias = "NDArray[Any] | Tensor | str | os.PathLike[str]"
Images: TypeAlias = "Image | Sequence[Image]"


class StereoPredictor:
    """Runs a network on images as people have them.

    Views are RGB images as a viewer would show them, rectified, of one size from 32x32 px. See `predict` for shapes
    and ranges. The network is moved to the device and put into eval mode; nothing else is kept between calls.

    Args:
        network: the network, which PyTorch then runs, or a `Backend` that runs one.
        device: for PyTorch: ``auto`` (CUDA where there is one, then MPS, else the CPU) or anything that `torch.device`
            takes.
        precision: for PyTorch: ``float32``, or the type that autocast may use in convolutions and attention.
            Correlation and coordinates stay float32. TF32 is off in any case.
        iters: iterations of the disparity; None: as many as the network is configured for.
        confidence: judges the disparity pixel by pixel; None: results have no confidence.
        tolerance: end the refinement when the mean step of every pair of a batch is at most this, px, and a crossed
            pair's contrast has been formed for the last time; `crosspol.inference.adaptive.stored_tolerance` knows one
            for the weights that ship. None: make all iterations.

    Raises:
        UsageError: a device that does not exist, an unknown precision, fewer than one iteration, or a tolerance of 0.
    """

    def __init__(
        self,
        network: CrossPol | Backend,
        device: str = "auto",
        precision: Precision = "float32",
        iters: int | None = None,
        confidence: Confidence | None = None,
        tolerance: float | None = None,
    ) -> None:
        iters = network.config.iters if iters is None else iters
        if isinstance(iters, bool) or not isinstance(iters, int) or iters < 1:
            raise UsageError(f"iters: got {iters!r}, wanted a whole number from 1 up")
        self.backend: Backend = TorchBackend(network, device, precision) if isinstance(network, CrossPol) else network
        self.iters = iters
        self.iters_from_start: int | None = None
        """Iterations of the second pass of full confidence, which begins at 0 whatever the first one began from; None:
        as many as the first one's."""
        self.confidence = confidence
        self.tolerance = None if tolerance is None else check_tolerance(tolerance)

    @property
    def passes(self) -> int:
        """How often the network runs for a pair: once, and once more on the right view for full confidence."""
        return 2 if self.confidence is not None and self.confidence.kind == "full" else 1

    @property
    def network(self) -> CrossPol:
        """The network that PyTorch runs.

        Raises:
            AttributeError: another backend runs it.
        """
        if isinstance(self.backend, TorchBackend):
            return self.backend.network
        raise AttributeError(f"network: got a {type(self.backend).__name__}, wanted a TorchBackend")

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        precision: Precision = "float32",
        iters: int | None = None,
        backend: BackendName = "torch",
        confidence: ConfidenceKind | None = None,
        tolerance: float | None = None,
    ) -> StereoPredictor:
        """Load weights and make a predictor of them.

        Args:
            weights: a folder with ``config.json`` and ``model.safetensors``, the name of a preset whose weights ship
                with the package, an id ``owner/name`` on the Hugging Face hub, or None for `crosspol`'s that ship.
            device: see the class.
            precision: see the class.
            iters: see the class.
            backend: what runs the network: ``torch`` (exact), ``openvino`` or ``onnxruntime`` (on the CPU, within
                0.01 px in float32; each size is prepared once, which takes 10 s and more, and kept on disk), or
                ``auto``; see `crosspol.inference.engines`.
            confidence: ``none``; ``fast``, which takes about a tenth of the time; or ``full``, which runs the network
                on the right view as well, for twice the time. The coefficients are those in the weights' folder, else
                those of `crosspol`, and then the values are an order and no probability: `confidence.note` says so.
                None: fast where the weights have coefficients of their own, else none.
            tolerance: see the class.

        Raises:
            MissingFileError: no such folder.
            UsageError: the folder holds no weights of this network, the backend is not installed, or another argument
                is wrong.
        """
        judge = Confidence.of(confidence, weights)
        engine = make_backend(backend, load_network(weights), device, precision)
        return cls(engine, iters=iters, confidence=judge, tolerance=tolerance)

    def predict(
        self,
        left: Images,
        right: Images,
        *,
        polarization_left: Images | None = None,
        polarization_right: Images | None = None,
        valid_left: Images | None = None,
        valid_right: Images | None = None,
        intensity_left: Images | None = None,
        intensity_right: Images | None = None,
        calibration: StereoCalibration | None = None,
    ) -> StereoResult:
        """Estimate the disparity of a stereo pair, or of several of one size.

        Every argument is an array, a path, or a sequence of them for a batch. Arrays of batches are (B, H, W, C); in
        place of an array there may be a tensor of the same shape, of any floating type and device. The caller's
        autocast, gradient and inference modes change nothing.

        Args:
            left: (H, W), (H, W, 1) or (H, W, 3) in RGB; uint8, uint16 (full range) or float in [0, 1]. An alpha
                channel is dropped if it is opaque.
            right: likewise, same size.
            polarization_left: (H, W): DoLP in [0, 1] or the contrast of a crossed pair in [-1, 1], as float, NaN =
                invalid there; uint8 and uint16 are DoLP times the full range. (H, W, 3) of S1/S0, S2/S0, DoLP for
                networks with three polarization channels.
            polarization_right: likewise, as the right camera saw it. A view without one counts as invalid everywhere.
            valid_left: (H, W), nonzero where `polarization_left` is valid.
            valid_right: likewise.
            intensity_left: (H, W), linear intensity of a crossed pair's left camera (parallel filter), instead of
                polarization maps; both views are needed.
            intensity_right: likewise (perpendicular filter).
            calibration: of the rectified views, as `crosspol.rigs.calibration_files.read_calibration` reads it; for
                depth and points in meters.

        Returns:
            The result; arrays have a batch axis exactly if `left` was a batch.

        Raises:
            MissingFileError: a path leads nowhere.
            UsageError: a file, shape, type, size or range that cannot be used; the message says which and why.
            FloatingPointError: the network's output is not finite.
        """
        inputs, batched = self.read(
            left,
            right,
            polarization_left=polarization_left,
            polarization_right=polarization_right,
            valid_left=valid_left,
            valid_right=valid_right,
            intensity_left=intensity_left,
            intensity_right=intensity_right,
        )
        if calibration is not None:
            check_calibration(calibration, tuple(inputs.left.shape[-2:]))
        result = replace(self.estimate(inputs), calibration=calibration)
        return result if batched else result.pair(0)

    def predict_frames(
        self, left: Frame, right: Frame, rig: RigKind, calibration: StereoCalibration | None = None
    ) -> StereoResult:
        """Estimate the disparity of a pair of frames in linear light, as cameras record them.

        Args:
            left: rectified, as `crosspol.rigs.reader.RigReader` reads it.
            right: likewise, same size.
            rig: kind of the rig: quad, quad-left, crossed or none.
            calibration: of the rectified views; handed on with the result.

        Returns:
            The result; arrays are (H, W). Its `inputs` hold both views as the network saw them.

        Raises:
            UsageError: the network does not use what such a rig measures, or the calibration is of raw views or of
                another size.
            ValueError: sizes that differ, or a frame without what the rig measures.
            FloatingPointError: the network's output is not finite.
        """
        self.check_rig(rig)
        if calibration is not None:
            check_calibration(calibration, left.size)
        inputs = StereoInputs.from_frames(left, right, rig, self.config.polarization.channels)
        return replace(self.estimate(inputs.batched()).pair(0), calibration=calibration)

    def check_rig(self, rig: RigKind) -> None:
        """Check that the network has a use for what a rig of this kind measures.

        Raises:
            UsageError: it has none.
        """
        config = self.config
        if rig != "none" and config.fusion.kind == "none":
            raise UsageError(f"rig: got {rig}, but these weights do not use polarization (fusion: none)")

    def estimate(
        self,
        inputs: StereoInputs,
        *,
        initial_disparity: NDArray[np.float32] | None = None,
        watch: Watch | None = None,
        initial_state: State | None = None,
    ) -> StereoResult:
        """Estimate the disparity of inputs that are ready for the network.

        Args:
            inputs: with a batch axis, (B, C, H, W), as `read` and `StereoInputs` make them.
            initial_disparity: (B, H, W), px, where refinement starts; None: at 0 everywhere.
            watch: called after every iteration; see `crosspol.model.network.Watch`.
            initial_state: `StereoResult.state` of views of this size, which the refinement continues in place of a
                start; `crosspol.inference.warm_start` says where that is worth something.

        Returns:
            The result; arrays are (B, H, W).

        Raises:
            ValueError: inputs that the network does not take.
            FloatingPointError: the network's output is not finite.
        """
        start = None
        if initial_disparity is not None:
            start = torch.from_numpy(np.require(initial_disparity, np.float32, ["C", "W"]))[:, None]
        if self.tolerance is not None:
            crossed = inputs.intensity_left is not None
            watch = Convergence(self.tolerance, max(self.config.refresh_after, default=0) if crossed else 0, watch)
        out = self.backend.run(inputs, Refinement(self.iters, start, watch, initial_state))
        disparity = _to_numpy(out.disparity)
        if not np.isfinite(disparity).all():
            precision = f" (precision {self.backend.precision})" if isinstance(self.backend, TorchBackend) else ""
            raise FloatingPointError(
                f"the network's disparity is not finite at {np.count_nonzero(~np.isfinite(disparity))} pixels"
                f"{precision}"
            )
        confidence, occluded = None, None
        if self.confidence is not None:
            again = Refinement(self.iters if self.iters_from_start is None else self.iters_from_start)
            # The other view's disparity starts at 0 whatever the first one's: it has to be a second opinion.
            confidence, occluded = self.confidence(inputs, out, lambda exchanged: self.backend.run(exchanged, again))
        return StereoResult(
            disparity,
            _to_numpy(out.polarization_use) if inputs.polarized else None,
            None if out.glass is None else _to_numpy(out.glass),
            inputs.to("cpu"),
            state=out.state,
            confidence=confidence,
            occluded=occluded,
        )

    def read(
        self,
        left: Images,
        right: Images,
        *,
        polarization_left: Images | None = None,
        polarization_right: Images | None = None,
        valid_left: Images | None = None,
        valid_right: Images | None = None,
        intensity_left: Images | None = None,
        intensity_right: Images | None = None,
    ) -> tuple[StereoInputs, bool]:
        """Read and check what `predict` would be given, without predicting.

        Returns:
            The network's inputs, (B, C, H, W), and whether `left` was a batch.

        Raises:
            MissingFileError: a path leads nowhere.
            UsageError: as in `predict`.
        """
        config = self.config
        gathered = {"left": _gather(left, "left", as_view), "right": _gather(right, "right", as_view)}
        for side, polarization in (("left", polarization_left), ("right", polarization_right)):
            if polarization is not None:
                convert = partial(as_polarization, channels=config.polarization.channels)
                gathered[f"pol_{side}"] = _gather(polarization, f"polarization_{side}", convert)
        for side, mask in (("left", valid_left), ("right", valid_right)):
            if mask is not None:
                gathered[f"valid_{side}"] = _gather(mask, f"valid_{side}", as_mask)
        for side, intensity in (("left", intensity_left), ("right", intensity_right)):
            if intensity is not None:
                gathered[f"intensity_{side}"] = _gather(intensity, f"intensity_{side}", as_intensity)
        for item in gathered.values():
            _check_agreement(item, gathered["left"])
        _check_use(gathered, config)
        arrays = {name: item.array.transpose(0, 3, 1, 2) for name, item in gathered.items()}
        return StereoInputs.from_arrays(**arrays), gathered["left"].batched


@dataclass(frozen=True)
class _Gathered:
    """An argument of `predict` as an array, with what to call it in an error."""

    name: str
    array: NDArray[Any]  # (B, H, W, C)
    batched: bool


def _gather(argument: Images, name: str, convert: Callable[[NDArray[Any], str], NDArray[Any]]) -> _Gathered:
    """Read an argument, check it, and give it a batch axis."""
    if isinstance(argument, (list, tuple)):
        if not argument:
            raise UsageError(f"{name}: got an empty sequence, wanted at least one image")
        items = [_gather(item, f"{name}[{index}]", convert) for index, item in enumerate(argument)]
        for item in items:
            if item.batched:
                raise UsageError(f"{item.name}: got a batch inside a sequence, wanted one image")
            _check_agreement(item, items[0])
        return _Gathered(name, np.concatenate([item.array for item in items]), batched=True)
    if isinstance(argument, (str, os.PathLike)):
        name = os.fspath(argument)
        argument = read_image(argument)
    array = convert(as_array(argument, name), name)
    return _Gathered(name, array if array.ndim == 4 else array[None], batched=array.ndim == 4)


def _check_agreement(item: _Gathered, first: _Gathered) -> None:
    """Refuse another size or batch than the first argument's."""
    (count, height, width), (wanted_count, wanted_height, wanted_width) = item.array.shape[:3], first.array.shape[:3]
    if (height, width) != (wanted_height, wanted_width):
        raise UsageError(
            f"{item.name}: got {width}x{height} px, wanted {wanted_width}x{wanted_height} px as in {first.name}"
        )
    if count != wanted_count or item.batched != first.batched:
        found, wanted = (
            f"a batch of {gathered.array.shape[0]}" if gathered.batched else "one image" for gathered in (item, first)
        )
        raise UsageError(f"{item.name}: got {found}, wanted {wanted} as in {first.name}")


def _check_use(gathered: dict[str, _Gathered], config: CrossPolConfig) -> None:
    """Refuse polarization that contradicts itself or that the network has no use for."""
    extra = [item for name, item in gathered.items() if name not in ("left", "right")]
    if extra and config.fusion.kind == "none":
        raise UsageError(f"{extra[0].name}: got polarization, but these weights do not use polarization (fusion: none)")
    crossed = [item for name, item in gathered.items() if name.startswith("intensity")]
    if len(crossed) == 1:
        raise UsageError(f"{crossed[0].name}: got the intensity of one view, wanted both views'")
    for side in ("left", "right"):
        if crossed and f"pol_{side}" in gathered:
            name = gathered[f"pol_{side}"].name
            raise UsageError(f"{name}: got a polarization map beside intensities, wanted one or the other")
        if f"valid_{side}" in gathered and f"pol_{side}" not in gathered and not crossed:
            raise UsageError(f"{gathered[f'valid_{side}'].name}: got a mask, but no polarization of that view")


def _to_numpy(map_: Tensor) -> NDArray[np.float32]:
    """(B, 1, H, W) -> (B, H, W), float32."""
    return map_[:, 0].float().cpu().numpy()
