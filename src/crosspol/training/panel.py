"""The image of a validation: what the network sees, what it says, and how far that is from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from crosspol.data.sample import StereoSample, stack
from crosspol.datasets.config import Polarization
from crosspol.model import CrossPol
from crosspol.training.polarization_input import substitute_polarization

_LARGEST_ERROR = 10.0


def scene_with_glass(samples: Dataset[StereoSample]) -> StereoSample:
    """Return the first scene that has glass, or the first."""
    for index in range(len(samples)):  # type: ignore[arg-type]
        sample = samples[index]
        if sample.glass.any():
            return sample
    return samples[0]


@torch.no_grad()
def panel(
    net: CrossPol, sample: StereoSample, iters: int, title: str, polarization: Polarization = "own"
) -> NDArray[np.uint8]:
    """Draw a scene: left view, polarization, truth, prediction, error (glass outlined), use of polarization.

    A network that was trained with the oracle is shown it here as well; foreign polarization needs other scenes, and
    the scene's own is shown.

    Returns:
        (H, W, 3), RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    net.eval()
    batch = stack([sample])
    if polarization == "oracle":
        batch = substitute_polarization(batch, polarization)
    batch = batch.to(next(net.parameters()).device)
    out = net(**batch.inputs(), iters=iters)
    truth, predicted = _image(sample.disparity), _image(out.disparity)
    known = _image(sample.valid) > 0
    range_ = {"vmin": float(truth[known].min(initial=0)), "vmax": float(truth[known].max(initial=1))}
    error = np.where(known, np.abs(predicted - truth), np.nan)
    glass = _image(sample.glass)

    figure = Figure(figsize=(12, 6.5), dpi=80)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.01, right=0.96, bottom=0.02, top=0.88, wspace=0.12, hspace=0.15)
    _show(figure, axes[0, 0], "left view", sample.left.permute(1, 2, 0).numpy())
    signal, name = _polarization(sample)
    _show(figure, axes[1, 0], name, signal, cmap="viridis")
    _show(figure, axes[0, 1], "true disparity, px", np.where(known, truth, np.nan), cmap="turbo", **range_)
    _show(figure, axes[1, 1], "disparity, px", predicted, cmap="turbo", **range_)
    _show(
        figure, axes[0, 2], f"error, mean {np.nanmean(error):.2f} px", error, cmap="magma", vmin=0, vmax=_LARGEST_ERROR
    )
    _show(figure, axes[1, 2], "use of polarization, %", 100 * _image(out.polarization_use), cmap="viridis", vmin=0)
    if glass.any() and not glass.all():
        for axis in (axes[0, 0], axes[0, 2]):
            axis.contour(glass, levels=[0.5], colors="cyan", linewidths=1)
    figure.suptitle(f"{title}: {sample.identity}")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _image(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().reshape(tensor.shape[-2:]).numpy()


def _polarization(sample: StereoSample) -> tuple[NDArray[np.float32], str]:
    if sample.pol_left is not None and sample.valid_left is not None:
        trusted = _image(sample.valid_left) > 0
        return np.where(trusted, _image(sample.pol_left[-1:]), np.float32(np.nan)), "DoLP, left"
    if sample.intensity_left is not None:
        return _image(sample.intensity_left), "parallel intensity, left"
    return np.full(sample.left.shape[-2:], np.nan, np.float32), "no polarization"


def _show(figure: Any, axis: Any, title: str, image: NDArray[np.float32], **colors: Any) -> None:
    shown = axis.imshow(image, interpolation="nearest", **colors)
    axis.set_title(title)
    axis.set_axis_off()
    if image.ndim == 2:
        figure.colorbar(shown, ax=axis, shrink=0.8)
