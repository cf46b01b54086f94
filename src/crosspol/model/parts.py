"""What the network is put together from: the contract of each part, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


class StereoFeatures(NamedTuple):
    """What the encoders make of a pair of images.

    left, right: features of both views, (B, C, h, w).
    hidden, context: of the left view, before tanh and relu, finest level first; each (B, C, h, w), and every level
        halves h and w.
    """

    left: Tensor
    right: Tensor
    hidden: list[Tensor]
    context: list[Tensor]


class Encoders(Protocol):
    """Images to features."""

    def __call__(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [-1, 1] to their features."""


class Update(Protocol):
    """One iteration of the disparity; everything is in feature pixels, disparity is positive."""

    motion_dim: int
    """Channels of the motion features: what a motion term has."""

    def context_terms(self, context: list[Tensor]) -> list[Tensor]:
        """Convolve the context (B, C, h, w) of each level once, for all iterations."""

    def __call__(
        self,
        hidden: list[Tensor],
        terms: list[Tensor],
        correlation: Tensor,
        disparity: Tensor,
        motion_term: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Return the next states and the step (B, 1, h, w).

        Args:
            hidden: states, finest level first.
            terms: as `context_terms` gives them.
            correlation: (B, levels * samples, h, w).
            disparity: (B, 1, h, w).
            motion_term: (B, motion_dim, h, w), added to the motion features; None adds nothing.
        """

    def upsampler(self, hidden: list[Tensor]) -> Upsampler:
        """Return what brings maps from feature resolution to full resolution under these states."""


class Upsampler(Protocol):
    """Brings maps from feature resolution to full resolution."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, 1, h, w) to (B, 1, factor * h, factor * w); the values keep their unit."""


class Fusion(Protocol):
    """Lets stereo features take what they need from polarization features."""

    ignores_unknown: bool
    """Leaves the stereo features as they are, bit for bit, where no polarization is valid."""

    def __call__(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Fuse one view: stereo (B, C, h, w), pol (B, P, h, w), mask (B, 1, h, w) to (B, C, h, w)."""

    def gate(self, alpha_cap: float | Tensor = 1.0) -> float:
        """Return the factor in [0, 1] that everything injected is multiplied with."""


class InjectingFusion(Fusion, Protocol):
    """A fusion whose result is the stereo features and what it adds to them: the site `hidden` wants that alone."""

    def injection(
        self, stereo: Tensor, pol: Tensor, mask: Tensor | None = None, alpha_cap: float | Tensor = 1.0
    ) -> Tensor:
        """Return what a call adds to `stereo`, (B, C, h, w); the arguments are those of a call."""


@dataclass(frozen=True)
class PolView:
    """Polarization of one view and where it is valid.

    polarization: (B, P, H, W); what lies where it is not valid may be anything.
    valid: (B, 1, H, W), bool, or numbers that are above 0 where it is.
    light: gives the linear light of the image, (B, 1, H, W), >= 0: S0 up to a factor, by which ratios to S0 are
        averaged. A function, because few encoders ask for it. None weighs all pixels alike.
    contrast_only: of three channels only the first was measured (a crossed pair's contrast is S1/S0 alone).
    """

    polarization: Tensor
    valid: Tensor
    light: Callable[[], Tensor] | None = None
    contrast_only: bool = False
