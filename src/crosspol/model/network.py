"""CrossPol: the blueprint's data flow on any backbone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from crosspol.model.boundary import NetworkInputs
from crosspol.model.config import CrossPolConfig, Site, preset
from crosspol.model.correlation import Correlation, correlate
from crosspol.model.fusion import FUSIONS, alpha_cap
from crosspol.model.glass import GlassHead
from crosspol.model.parts import PolView, StereoFeatures
from crosspol.model.polarization import ENCODERS, feature_mask
from crosspol.model.shipped import WEIGHTS_FILE, weights_folder

Views = tuple[PolView | None, PolView | None]

# What `PyTorchModelHubMixin._from_pretrained` is told of the download, not of the network.
_OF_THE_HUB = ("revision", "cache_dir", "force_download", "local_files_only", "token")

Watch: TypeAlias = Callable[[int, Tensor], bool]
"""Called after each iteration with its number, from 1, and its step (B, 1, h, w), px; True makes it the last one."""


@dataclass(frozen=True, eq=False)
class State:
    """Where a refinement stands: what the next iteration needs, beside the features.

    hidden: the update's states, finest first, (B, C, h, w) each.
    disparity: (B, 1, h, w) float32, px of the features.
    """

    hidden: tuple[Tensor, ...]
    disparity: Tensor


@dataclass(frozen=True)
class StereoOutput:
    """What a forward pass returns."""

    disparity: Tensor
    """(B, 1, H, W) float32, px of the left view; positive by convention (x_right = x_left - d), nothing is clamped."""
    predictions: tuple[Tensor, ...]
    """Disparity after each iteration in training, each (B, 1, H, W); the last one alone in use."""
    polarization_use: Tensor
    """(B, 1, H, W) float32, |injected| / |stereo| of the left view: where polarization changed it."""
    last_step: Tensor
    """(B, 1, H, W) float32, px, how far the last iteration moved the disparity: small where it has converged."""
    glass_logits: Tensor | None = None
    """(B, 1, H, W) float32, logit of "the first surface is glass" in the left view; None without a glass head."""
    state: State | None = None
    """Where the refinement ended, for a later one to continue there; None in training."""

    @property
    def glass(self) -> Tensor | None:
        """Probability in [0, 1] that the first surface is glass, (B, 1, H, W); None without a glass head."""
        return None if self.glass_logits is None else torch.sigmoid(self.glass_logits)


class Conditioned(NamedTuple):
    """The stereo network's features under what is known of polarization.

    left, right: features of both views, (B, C, h, w), which are correlated.
    context: the left view's context after relu, finest level first.
    terms: the context as the update takes it.
    motion_term: added to the motion features of every refinement; None adds nothing.
    use: |injected| / |stereo|, (B, 1, h, w).
    """

    left: Tensor
    right: Tensor
    context: list[Tensor]
    terms: list[Tensor]
    motion_term: Tensor | None
    use: Tensor


class Pieces(Protocol):
    """A network in the pieces that `estimate` puts together: PyTorch's own, or those of another engine."""

    def encode(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [0, 1], padded, to their features."""

    def condition(self, features: StereoFeatures, views: Views) -> Conditioned:
        """Fuse what is known of both views' polarization into the features."""

    def refine(
        self, hidden: list[Tensor], conditioned: Conditioned, correlation: Tensor, disparity: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Return the next states and the step of the disparity, as `parts.Update` does."""

    def upsample(self, hidden: list[Tensor], disparity: Tensor) -> Tensor:
        """Bring a disparity (B, 1, h, w), feature pixels, to (B, 1, H, W), px."""

    def finish(
        self, hidden: list[Tensor], left: Tensor, context: list[Tensor], disparity: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return `upsample`'s disparity, and the glass head's logits (B, 1, H, W); None without one.

        The left features and the context are those of `Conditioned`.
        """


class CrossPol(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="crosspol",
    license="mit",
    tags=["stereo-matching", "polarization", "depth-estimation"],
):
    """Disparity from a stereo pair, with polarization where it helps.

    The components are built from the configuration; give one by its keyword to replace it (a network with a
    component of your own is saved without its code). Their contracts are in `crosspol.model.parts`.

    Args:
        config: see `CrossPolConfig`; its defaults are the preset ``blueprint``.
        encoders: both views to features, and the left view to a state and a context.
        polarization_encoder: a view's polarization to features.
        fusion: fuses the features that are correlated; like the next two None where the configured site is another.
        context_fusion: fuses the left view's context.
        hidden_fusion: its injection becomes part of the motion input.
        update: one iteration.
    """

    POLARIZED: ClassVar[tuple[str, ...]] = ("polarization_encoder", "fusion", "context_fusion", "hidden_fusion")
    """The parts that polarization passes through, by name."""

    def __init__(
        self,
        config: CrossPolConfig | None = None,
        *,
        encoders: nn.Module | None = None,
        polarization_encoder: nn.Module | None = None,
        fusion: nn.Module | None = None,
        context_fusion: nn.Module | None = None,
        hidden_fusion: nn.Module | None = None,
        update: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config = CrossPolConfig() if config is None else config
        record = config.record
        self.encoders = record.encoders(config) if encoders is None else encoders
        self.polarization_encoder = polarization_encoder
        if polarization_encoder is None and config.fusion.sites:
            self.polarization_encoder = ENCODERS[config.polarization.encoder](config.polarization, record.stride)
        self.fusion = self._fusion_at("features", fusion)
        self.context_fusion = self._fusion_at("context", context_fusion)
        self.hidden_fusion = self._fusion_at("hidden", hidden_fusion)
        # Any: nn.Module does not tell what is called on it; `parts.Update` does.
        self.update: Any = record.update(config) if update is None else update
        glass_channels = config.hidden_dim + config.context_dim + config.feature_dim
        self.glass_head = GlassHead(glass_channels) if config.glass_head else None
        if self.hidden_fusion is not None and self.update.motion_dim != config.context_dim:
            raise ValueError(
                f"CrossPolConfig.context_dim: got {config.context_dim}, wanted {self.update.motion_dim}: "
                "the context queries what is added to the motion features (fusion.site hidden)"
            )
        self.alpha_cap: Tensor
        # Kept with the weights: a network trained for less than the warmup runs with the cap that it reached.
        self.register_buffer("alpha_cap", torch.tensor(alpha_cap(0)))
        # What save_pretrained writes to config.json; by itself the mixin knows only what was passed in.
        self._hub_mixin_config = config

    def _fusion_at(self, site: Site, given: nn.Module | None) -> Any:
        """Return the fusion of a site, None where polarization does not enter there."""
        config = self.config
        if site not in config.fusion.sites:
            return None
        if given is not None:
            return given
        return FUSIONS[config.fusion.kind](config.fusion, config.fused_dim(site), config.polarization.pol_dim)

    @classmethod
    def from_preset(cls, name: str = "blueprint", **changes: Any) -> CrossPol:
        """Build a preset with random weights; `changes` replace fields of its `CrossPolConfig`."""
        return cls(preset(name, **changes))

    def gates(self, cap: float | Tensor | None = None) -> dict[str, float]:
        """Return by fusion what everything that it injects is multiplied with (alpha, or 1 where nothing gates)."""
        cap = self.alpha_cap if cap is None else cap
        fusions = {name: getattr(self, name) for name in self.POLARIZED if name.endswith("fusion")}
        return {name: fusion.gate(cap) for name, fusion in fusions.items() if hasattr(fusion, "gate")}

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the weights with the mode that any new file gets; safetensors keeps its files to their owner."""
        super()._save_pretrained(save_directory)
        fresh = save_directory / ".new.part"
        fresh.touch()
        for path in save_directory.glob("*.safetensors"):
            path.chmod(fresh.stat().st_mode & 0o777)
        fresh.unlink()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **options: Any
    ) -> CrossPol:
        """Load a network, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` wrote, a preset whose weights ship with the
                package, an id ``owner/name`` on the Hugging Face hub, or None for `crosspol`'s that ship.
            options: of `huggingface_hub.ModelHubMixin.from_pretrained`, such as ``revision``.
        """
        found = os.fspath(weights_folder(pretrained_model_name_or_path))
        network: CrossPol = super().from_pretrained(found, **options)
        return network

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **arguments: Any
    ) -> CrossPol:
        """Build the network that config.json describes; weights that do not fit it are an error."""
        if isinstance(arguments.get("config"), dict):
            arguments["config"] = CrossPolConfig(**arguments["config"])
        # The mixin takes the configuration's entry "fusion" for the component of that name.
        if isinstance(arguments.get("fusion"), dict):
            del arguments["fusion"]
        network: CrossPol
        if os.path.isdir(model_id):
            # What the mixin does with a folder, without the line that it prints.
            network = cls(**{name: value for name, value in arguments.items() if name not in _OF_THE_HUB})
            cls._load_as_safetensor(network, os.path.join(model_id, WEIGHTS_FILE), map_location, strict)
        else:
            network = super()._from_pretrained(model_id=model_id, map_location=map_location, strict=strict, **arguments)
        return network

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
        iters: int | None = None,
        alpha_cap: float | Tensor | None = None,
        checkpoint_activations: bool = False,
        initial_disparity: Tensor | None = None,
        initial_state: State | None = None,
        watch: Watch | None = None,
    ) -> StereoOutput:
        """Estimate the left view's disparity.

        Args:
            left: (B, 3, H, W) in [0, 1], as a viewer would show it; H, W >= 32.
            right: the same of the right view.
            pol_left: (B, P, H, W), P as configured: DoLP in [0, 1], or a contrast in [-1, 1]; None: not known.
            pol_right: the same of the right view.
            valid_left: (B, 1, H, W), 1 = valid; None: all are. What lies at invalid pixels may be anything.
            valid_right: the same of the right view.
            intensity_left: instead of maps, a crossed pair's linear I_parallel (B, 1, H, W).
            intensity_right: its linear I_perpendicular (B, 1, H, W).
            iters: iterations, >= 1; None: as configured (24 in the blueprint).
            alpha_cap: overrides the cap kept with the weights.
            checkpoint_activations: keep only the inputs of every iteration, and compute it again when its gradient
                is due: less memory, more time, the same gradient. Changes nothing where no gradients are computed.
            initial_disparity: (B, 1, H, W), px, where refinement starts; None: at 0.
            initial_state: where an earlier refinement of views of this size ended, to be continued, in place of
                `initial_disparity`: the same views then get what more iterations would have given.
            watch: called after every iteration; see `Watch`.

        Raises:
            ValueError: a shape does not fit, a valid value is not finite, or the arguments contradict each other.
        """
        iters = self.config.iters if iters is None else iters
        inputs = NetworkInputs(self.config, left, right, (pol_left, pol_right), (valid_left, valid_right),
                         (intensity_left, intensity_right), iters)  # fmt: skip
        cap = self.alpha_cap if alpha_cap is None else alpha_cap
        pieces = self.pieces(cap, checkpoint_activations and torch.is_grad_enabled())
        return estimate(pieces, self.config, inputs, iters, initial_disparity, initial_state, watch, self.training)

    def encode(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """Map two views (B, 3, H, W) in [0, 1] to their features and the left one's context, before any fusion."""
        nothing = (None, None)
        inputs = NetworkInputs(self.config, left, right, nothing, nothing, nothing, 1)
        return self.pieces().encode(inputs.left, inputs.right)

    def pieces(self, cap: float | Tensor | None = None, checkpoint_activations: bool = False) -> Pieces:
        """Return what `estimate` puts together, as PyTorch computes it; cap and checkpoints as `forward` has them."""
        return _Plain(self, self.alpha_cap if cap is None else cap, checkpoint_activations)

    def condition(self, features: StereoFeatures, views: Views, cap: float | Tensor) -> Conditioned:
        """Fuse polarization into what the configuration says, each view's features with its own, by shared weights."""
        left, right, context, motion_term = features.left, features.right, features.context, None
        uses = [left.new_zeros(left.shape[0], 1, *left.shape[2:], dtype=torch.float32)]
        pol_left = self._encode(views[0])
        if self.fusion is not None:
            left = self._fuse(self.fusion, features.left, pol_left, cap)
            uses.append(_share(left - features.left, features.left))
            if self.config.fusion.views == "both":
                right = self._fuse(self.fusion, features.right, self._encode(views[1]), cap)
        if self.context_fusion is not None:
            finest = self._fuse(self.context_fusion, features.context[0], pol_left, cap)
            uses.append(_share(finest - features.context[0], features.context[0]))
            context = [finest, *features.context[1:]]
        if self.hidden_fusion is not None and pol_left is not None:
            motion_term = self.hidden_fusion.injection(features.context[0], *pol_left, cap)
            uses.append(_share(motion_term, features.context[0]))
        context = [torch.relu(level) for level in context]
        use = torch.stack(uses).amax(dim=0)
        return Conditioned(left, right, context, self.update.context_terms(context), motion_term, use)

    def _encode(self, view: PolView | None) -> tuple[Tensor, Tensor] | None:
        """Return polarization features (B, P, h, w) and where they are valid (B, 1, h, w); None of an unknown view."""
        if view is None or self.polarization_encoder is None:
            return None
        return self.polarization_encoder(view), feature_mask(view.valid, self.config.feature_stride)

    def _fuse(self, fusion: Any, stereo: Tensor, pol: tuple[Tensor, Tensor] | None, cap: float | Tensor) -> Tensor:
        if pol is None:
            if getattr(fusion, "ignores_unknown", False):
                return stereo  # what it would return for a map that is invalid everywhere
            batch, _, height, width = stereo.shape
            nothing = stereo.new_zeros(batch, self.config.polarization.pol_dim, height, width)
            pol = (nothing, nothing[:, :1])
        fused: Tensor = fusion(stereo, *pol, cap)
        return fused


@dataclass(frozen=True, eq=False)
class _Plain:
    """A network's pieces as PyTorch computes them."""

    network: CrossPol
    cap: float | Tensor
    checkpointed: bool = False

    def encode(self, left: Tensor, right: Tensor) -> StereoFeatures:
        features: StereoFeatures = self.network.encoders(2 * left - 1, 2 * right - 1)
        return features

    def condition(self, features: StereoFeatures, views: Views) -> Conditioned:
        return self.network.condition(features, views, self.cap)

    def refine(
        self, hidden: list[Tensor], conditioned: Conditioned, correlation: Tensor, disparity: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        update = self.network.update
        if self.checkpointed:
            update = partial(checkpoint, update, use_reentrant=False)
        refined: tuple[list[Tensor], Tensor] = update(
            hidden, conditioned.terms, correlation, disparity, conditioned.motion_term
        )
        return refined

    def upsample(self, hidden: list[Tensor], disparity: Tensor) -> Tensor:
        full: Tensor = self.network.update.upsampler(hidden)(self.network.config.feature_stride * disparity)
        return full

    def finish(
        self, hidden: list[Tensor], left: Tensor, context: list[Tensor], disparity: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        upsample = self.network.update.upsampler(hidden)
        full = upsample(self.network.config.feature_stride * disparity)
        if self.network.glass_head is None:
            return full, None
        logits = self.network.glass_head(hidden[0], context[0], left)
        return full, upsample(logits.float())


def estimate(
    pieces: Pieces,
    config: CrossPolConfig,
    inputs: NetworkInputs,
    iters: int,
    initial_disparity: Tensor | None = None,
    initial_state: State | None = None,
    watch: Watch | None = None,
    training: bool = False,
) -> StereoOutput:
    """Estimate the disparity of a network that is given in pieces; the arguments are those of `CrossPol.forward`.

    Correlation and coordinates are PyTorch's, in float32, whoever computes the pieces.

    Args:
        pieces: of the network.
        config: its configuration.
        inputs: checked and padded.
        training: return the prediction of every iteration.
    """
    stride = config.feature_stride
    features = pieces.encode(inputs.left, inputs.right)
    start = None if initial_disparity is None else inputs.start(initial_disparity)
    hidden = [torch.tanh(level) for level in features.hidden]
    disparity = features.left.new_zeros(len(inputs.left), 1, *features.left.shape[2:], dtype=torch.float32)
    if start is not None:
        # One pixel of a cell, not its mean, which at an edge is a depth where nothing is.
        disparity = start[..., ::stride, ::stride] / stride
    if initial_state is not None:
        _check_like(initial_state, State(tuple(hidden), disparity))
        hidden, disparity = list(initial_state.hidden), initial_state.disparity
        start = pieces.upsample(hidden, disparity) if inputs.crossed else None

    def condition(views: Views) -> tuple[Conditioned, Correlation]:
        found = pieces.condition(features, views)
        return found, correlate(found.left, found.right, config.correlation_levels, config.correlation_radius)

    # Where an estimate is known already, a crossed pair has a contrast from the first iteration on.
    conditioned, pyramid = condition(inputs.views if start is None or not inputs.crossed else inputs.contrast(start))
    predictions = []
    logits = None
    for iteration in range(1, iters + 1):
        disparity = disparity.detach()
        hidden, step = pieces.refine(hidden, conditioned, pyramid.lookup(disparity), disparity)
        step = step.float()
        disparity = disparity + step
        last = (watch is not None and watch(iteration, stride * step)) or iteration == iters
        refresh = inputs.crossed and iteration in config.refresh_after and not last
        if last:
            full, logits = pieces.finish(hidden, conditioned.left, conditioned.context, disparity)
        elif training or refresh:
            full = pieces.upsample(hidden, disparity)
        if training or last:
            predictions.append(inputs.crop(full))
        if last:
            break
        if refresh:
            conditioned, pyramid = condition(inputs.contrast(full.detach()))
    use, moved = (
        inputs.crop(F.interpolate(x, scale_factor=float(stride), mode="nearest"))
        for x in (conditioned.use, stride * step.detach().abs())
    )
    return StereoOutput(
        predictions[-1],
        tuple(predictions),
        use,
        moved,
        None if logits is None else inputs.crop(logits),
        None if training else State(tuple(hidden), disparity),
    )


@torch.no_grad()
def _share(injected: Tensor, stereo: Tensor) -> Tensor:
    """Return |injected| / |stereo| per feature pixel, (B, 1, h, w)."""
    size, whole = (torch.linalg.vector_norm(x.float(), dim=1, keepdim=True) for x in (injected, stereo))
    share: Tensor = size / whole.clamp_min(1e-6)
    return share


def _check_like(state: State, fresh: State) -> None:
    """Refuse the state of views of another size, of another batch or of another network."""
    found, wanted = ([tuple(part.shape) for part in (*each.hidden, each.disparity)] for each in (state, fresh))
    if found != wanted:
        raise ValueError(f"initial_state: got {found}, wanted {wanted}, as of views of this size")
