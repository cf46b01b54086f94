"""CrossPol: the blueprint's data flow on either backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.boundary import NetworkInputs, View
from crosspol.model.config import CrossPolConfig, Preset, preset
from crosspol.model.correlation import CorrelationPyramid
from crosspol.model.encoders import (
    ContextEncoder,
    FeatureEncoder,
    OfficialContext,
    SeparateEncoders,
    SharedEncoder,
    affine_instance_norm,
    instance_norm,
)
from crosspol.model.fusion import SafeCrossAttentionFusion, alpha_cap, build_fusion
from crosspol.model.polarization import PolarizationEncoder, feature_mask
from crosspol.model.update import MultiLevelUpdate, SingleLevelUpdate


@dataclass(frozen=True)
class StereoOutput:
    """What a forward pass returns."""

    disparity: Tensor
    """(B, 1, H, W) float32, px of the left view; positive by convention (x_right = x_left - d), nothing is clamped."""
    predictions: tuple[Tensor, ...]
    """Disparity after each refinement in training, each (B, 1, H, W); the last one alone in use."""
    polarization_use: Tensor
    """(B, 1, H, W) float32, |injected| / |stereo features| of the left view: where polarization changed them."""


class CrossPol(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="crosspol",
    license="mit",
    tags=["stereo-matching", "polarization", "depth-estimation"],
):
    """Disparity from a stereo pair, with polarization where it helps.

    The components are built from the configuration; give one by its keyword to replace it (a network with a
    component of your own is saved without its code).

    Args:
        config: see `CrossPolConfig`; its defaults are the preset ``blueprint``.
        encoders: (left, right) to features of both views and the left view's context.
        polarization_encoder: polarization map and validity to polarization features.
        fusion: (stereo, polarization, mask, alpha_cap) to fused features; None without polarization.
        update: one refinement.
    """

    def __init__(
        self,
        config: CrossPolConfig | None = None,
        *,
        encoders: nn.Module | None = None,
        polarization_encoder: nn.Module | None = None,
        fusion: nn.Module | None = None,
        update: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config = CrossPolConfig() if config is None else config
        polarized = config.fusion.kind != "none"
        self.encoders = encoders or build_encoders(config)
        self.polarization_encoder = (
            polarization_encoder or PolarizationEncoder(config.polarization, config.feature_stride)
            if polarized
            else None
        )
        self.fusion = (
            fusion or build_fusion(config.fusion, config.feature_dim, config.polarization.pol_dim)
            if polarized
            else None
        )
        self.update: Any = update or build_update(config)
        self.alpha_cap: Tensor
        # Kept with the weights: a network trained for less than the warmup runs with the cap that it reached.
        self.register_buffer("alpha_cap", torch.tensor(alpha_cap(0)))
        # What save_pretrained writes to config.json; by itself the mixin knows only what was passed in.
        self._hub_mixin_config = config

    @classmethod
    def from_preset(cls, name: Preset = "blueprint", **changes: Any) -> CrossPol:
        """Build a preset with random weights; `changes` replace fields of its `CrossPolConfig`."""
        return cls(preset(name, **changes))

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **arguments: Any) -> CrossPol:
        """Build the network that config.json describes; weights that do not fit it are an error."""
        if isinstance(arguments.get("config"), dict):
            arguments["config"] = CrossPolConfig(**arguments["config"])
        # The mixin takes the configuration's entry "fusion" for the component of that name.
        if isinstance(arguments.get("fusion"), dict):
            del arguments["fusion"]
        return super()._from_pretrained(strict=strict, **arguments)

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        pol_left: Tensor | None = None,
        pol_right: Tensor | None = None,
        valid_left: Tensor | None = None,
        valid_right: Tensor | None = None,
        *,
        intensity_left: Tensor | None = None,
        intensity_right: Tensor | None = None,
        iters: int = 24,
        alpha_cap: float | Tensor | None = None,
    ) -> StereoOutput:
        """Estimate the left view's disparity.

        Args:
            left: (B, 3, H, W) in [0, 1], as a viewer would show it; H, W >= 32.
            right: the same of the right view.
            pol_left: (B, P, H, W), P as configured: DoLP in [0, 1], or a contrast in [-1, 1]; None: not known.
            pol_right: the same of the right view.
            valid_left: (B, 1, H, W), 1 = trusted; None trusts all. What lies at untrusted pixels may be anything.
            valid_right: the same of the right view.
            intensity_left: instead of maps, a crossed pair's linear I_parallel (B, 1, H, W).
            intensity_right: its linear I_perpendicular (B, 1, H, W).
            iters: refinements, >= 1.
            alpha_cap: overrides the cap kept with the weights.

        Raises:
            ValueError: a shape does not fit, a trusted value is not finite, or the arguments contradict each other.
        """
        inputs = NetworkInputs(self.config, left, right, (pol_left, pol_right), (valid_left, valid_right),
                         (intensity_left, intensity_right), iters)  # fmt: skip
        cap = self.alpha_cap if alpha_cap is None else alpha_cap

        stereo_left, stereo_right, context = self.encoders(2 * inputs.left - 1, 2 * inputs.right - 1)
        fused_left, fused_right = self._fuse(stereo_left, stereo_right, inputs.views, cap)
        pyramid = self._correlate(fused_left, fused_right)

        hidden = context.hidden
        terms = self.update.context_terms(context.context)
        disparity = stereo_left.new_zeros(stereo_left.shape[0], 1, *stereo_left.shape[2:], dtype=torch.float32)
        predictions = []
        for iteration in range(1, iters + 1):
            disparity = disparity.detach()
            hidden, step = self.update(hidden, terms, pyramid.lookup(disparity), disparity)
            disparity = disparity + step.float()
            if self.training or iteration == iters:
                predictions.append(inputs.crop(self.update.upsample(hidden, disparity)))
            if inputs.crossed and iteration in self.config.refresh_after and iteration < iters:
                estimate = self.update.upsample(hidden, disparity).detach()
                views = inputs.contrast(estimate)
                fused_left, fused_right = self._fuse(stereo_left, stereo_right, views, cap)
                pyramid = self._correlate(fused_left, fused_right)
        use = inputs.crop(self._use(stereo_left, fused_left))
        return StereoOutput(predictions[-1], tuple(predictions), use)

    def _fuse(
        self, stereo_left: Tensor, stereo_right: Tensor, views: tuple[View | None, View | None], cap: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fuse each view with its own polarization, by shared weights."""
        fused_left = self._fuse_view(stereo_left, views[0], cap)
        if self.config.fusion.views == "left":
            return fused_left, stereo_right
        return fused_left, self._fuse_view(stereo_right, views[1], cap)

    def _fuse_view(self, stereo: Tensor, view: View | None, cap: float | Tensor) -> Tensor:
        if self.fusion is None or self.polarization_encoder is None:
            return stereo
        if view is None:
            if isinstance(self.fusion, SafeCrossAttentionFusion):
                return stereo  # what it would return for a map that is invalid everywhere
            view = self._unknown(stereo)
        pol = self.polarization_encoder(*view)
        return self.fusion(stereo, pol, feature_mask(view.valid, self.config.feature_stride), cap)

    def _unknown(self, stereo: Tensor) -> View:
        """Return a view without any trusted polarization; only the concat baseline needs one."""
        batch, _, height, width = stereo.shape
        stride, channels = self.config.feature_stride, self.config.polarization.channels
        zeros = torch.zeros(batch, channels, stride * height, stride * width, device=stereo.device)
        return View(zeros, zeros[:, :1])

    def _correlate(self, left: Tensor, right: Tensor) -> CorrelationPyramid:
        return CorrelationPyramid(left, right, self.config.correlation_levels, self.config.correlation_radius)

    def _use(self, stereo: Tensor, fused: Tensor) -> Tensor:
        """Return |fused - stereo| / |stereo| per feature pixel at full resolution, (B, 1, H, W)."""
        with torch.no_grad():
            injected = torch.linalg.vector_norm((fused - stereo).float(), dim=1, keepdim=True)
            share = injected / torch.linalg.vector_norm(stereo.float(), dim=1, keepdim=True).clamp_min(1e-6)
            return F.interpolate(share, scale_factor=float(self.config.feature_stride), mode="nearest")


def build_encoders(config: CrossPolConfig) -> nn.Module:
    """Return the feature and context encoders of the configured backbone."""
    hidden, context = config.hidden_dim, config.context_dim
    if config.backbone == "raft-stereo-realtime":
        return SharedEncoder(config.feature_dim, levels=2, hidden_dim=hidden, context_dim=context)
    if config.backbone == "raft-stereo":
        features = FeatureEncoder(config.feature_dim, (1, 2, 2), instance_norm)
        return SeparateEncoders(features, OfficialContext(levels=3, hidden_dim=hidden, context_dim=context))
    strides = (1, 2, 2) if config.stem_stride == 1 else (2, 2, 1)
    features = FeatureEncoder(config.feature_dim, strides, affine_instance_norm)
    return SeparateEncoders(features, ContextEncoder(hidden, context, strides))


def build_update(config: CrossPolConfig) -> nn.Module:
    """Return the refinement step of the configured backbone."""
    correlation_dim = config.correlation_levels * (2 * config.correlation_radius + 1)
    sizes = {"hidden_dim": config.hidden_dim, "context_dim": config.context_dim, "factor": config.feature_stride}
    if config.backbone == "blueprint":
        return SingleLevelUpdate(correlation_dim, **sizes)
    realtime = config.backbone == "raft-stereo-realtime"
    return MultiLevelUpdate(correlation_dim, levels=2 if realtime else 3, slow_fast=realtime, **sizes)
