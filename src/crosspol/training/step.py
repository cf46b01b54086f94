"""One step of training: forward, backward, and either an optimizer step or a step skipped and explained."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from crosspol.data.sample import StereoBatch
from crosspol.model import CrossPol, alpha_cap
from crosspol.training.clipping import clip_by_part
from crosspol.training.config import TrainConfig
from crosspol.training.failures import TrainingError
from crosspol.training.loss import glass_loss, sequence_loss
from crosspol.training.optimization import gradient_norms, set_rates, within
from crosspol.training.stream import Part

Skipped = Literal["loss", "gradient", "ground truth"]
"""Why a step was skipped: a loss or gradient that is not finite, or a batch without a valid pixel."""

# What is added up over the parts of a batch and over the processes.
_SUMS = ("loss", "error", "valid", "glass_use", "glass", "other_use", "other", "glass_loss", "bad")


class Forward(nn.Module):
    """The network as the launcher wraps it: plain tuples out, for it copies no frozen dataclass.

    Args:
        net: to train.
        checkpoint_activations: compute each iteration again for its gradient instead of keeping it.
    """

    def __init__(self, net: CrossPol, checkpoint_activations: bool = False) -> None:
        super().__init__()
        self.net = net
        # A network of one's own need not know the option.
        self.options: dict[str, bool] = {"checkpoint_activations": True} if checkpoint_activations else {}

    def forward(self, inputs: dict[str, Tensor], iters: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
        """Return the predictions, each (B, 1, H, W) px, the use of polarization (B, 1, H, W), and logits of glass."""
        out = self.net(**inputs, iters=iters, **self.options)
        return out.predictions, out.polarization_use, out.glass_logits


@dataclass
class Run:
    """Everything that changes during a run, and what it is computed with."""

    config: TrainConfig
    fabric: Fabric
    net: CrossPol
    model: Any
    """The network inside `Forward`, as Fabric wraps it."""
    optimizer: Any
    """As Fabric wraps it; torch's own is its ``optimizer``."""
    average: AveragedModel | None = None
    """Moving average of the weights, where one is wanted; its ``module`` is the network."""
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: float = math.inf
    """Lowest score of a validation so far."""

    @property
    def evaluated(self) -> CrossPol:
        """The network that is validated and kept: the average where there is one."""
        return self.net if self.average is None else cast(CrossPol, self.average.module)

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss in float16."""
        precision = self.fabric.strategy.precision
        return precision.scaler if isinstance(precision, MixedPrecision) else None


def train_step(run: Run, parts: Sequence[Part], signal_number: int = 0) -> tuple[dict[str, Any], int]:
    """Take one step on this process's parts of a batch.

    A loss or gradient that is not finite, and a batch without a single valid pixel, leave weights, optimizer and norm
    statistics as they were; the step still counts, so that schedule, cap and stream move on.

    Args:
        run: changed in place.
        parts: of the batch, not empty, anywhere; they go to the device one after the other.
        signal_number: of the signal that asked this process to stop; 0: none did.

    Returns:
        What is worth logging, over all processes, and the number of a signal that asked any process to stop.

    Raises:
        TrainingError: an input cannot be used, or too many steps in a row were skipped.
    """
    config, fabric, net = run.config, run.fabric, run.net
    set_rates(run.optimizer, run.step, config.num_steps, config.lr_warmup)
    _train_mode(net, config)
    buffers = [buffer.clone() for buffer in net.buffers()]
    # The loss is a mean over the samples that have ground truth. Processes and parts may have different numbers of
    # them, so each weighs by its own; DDP then divides by the number of processes.
    # Of the glass head those whose glass is known, as well.
    counts = [_counts(part, fabric.device) for part in parts]
    counted, masked = zip(*torch.stack(counts).tolist(), strict=True)
    whole = _reduce(fabric, {"counted": float(sum(counted)), "masked": float(sum(masked))})
    everywhere = whole["counted"]
    shares = [
        (count / max(1.0, everywhere), of_glass / max(1.0, whole["masked"]))
        for count, of_glass in zip(counted, masked, strict=True)
    ]
    sums, bad = _gradients(run, parts, shares)
    sums["terminate"] = float(signal_number == signal.SIGTERM)
    sums["interrupt"] = float(signal_number == signal.SIGINT)
    total = _reduce(fabric, sums)
    if run.scaler is not None:
        run.scaler.unscale_(run.optimizer.optimizer)
    norms = gradient_norms(net)
    norm = math.hypot(*norms.values())
    record: dict[str, Any] = {
        "rig": parts[0].rig,
        "loss": total["loss"],
        "epe": _ratio(total["error"], total["valid"]),
        "alpha": _alpha(net),
        "alpha_cap": float(net.alpha_cap),
        "injected_glass": _ratio(total["glass_use"], total["glass"]),
        "injected_elsewhere": _ratio(total["other_use"], total["other"]),
        "lr": {group["name"]: group["lr"] for group in run.optimizer.param_groups},
        "gradient_norm": {"all": norm, **norms},
    }
    if total["glass_heads"] and whole["masked"]:
        record["glass_loss"] = total["glass_loss"]
    what = _reason_to_skip(total, everywhere, norm)
    if what is not None:
        names = bad if what == "loss" else [name for part in parts for name in part.names]
        record |= _skip(run, buffers, what, gather(fabric, names))
    else:
        _step(run)
    run.step += 1
    net.alpha_cap.fill_(alpha_cap(run.step, config.alpha_cap_start, config.alpha_cap_warmup))
    if run.average is not None:
        run.average.update_parameters(net)
    if run.skipped_in_a_row >= config.max_skipped:
        raise TrainingError(_too_many_skipped(run, record["skipped"], record["samples"]))
    if total["terminate"]:
        return record, int(signal.SIGTERM)
    return record, int(signal.SIGINT) if total["interrupt"] else 0


def _gradients(
    run: Run, parts: Sequence[Part], shares: Sequence[tuple[float, float]]
) -> tuple[dict[str, float], list[str]]:
    """Add up the gradients of the parts.

    Args:
        run: whose network.
        parts: this process's.
        shares: of each part in the loss of the batch, and in that of its glass, in [0, 1].

    Returns:
        Sums over this process's parts (``loss`` is its share of the batch's), and the samples of parts whose loss is
        not finite.
    """
    run.optimizer.zero_grad(set_to_none=True)
    rows: list[Tensor] = []
    headed = 0
    for index, (part, of_batch) in enumerate(zip(parts, shares, strict=True)):
        with run.fabric.no_backward_sync(run.model, enabled=index < len(parts) - 1):
            row, head = _gradient(run, part.to(run.fabric.device, non_blocking=True), of_batch)
        rows.append(row)
        headed += head
    # One transfer: whoever asks a GPU for a number waits until it has computed everything before.
    table = torch.stack(rows).tolist()
    bad = [name for part, row in zip(parts, table, strict=True) if row[-1] for name in part.names]
    sums = dict(zip(_SUMS, map(sum, zip(*table, strict=True)), strict=True))
    return sums | {"glass_heads": float(headed)}, bad


def _gradient(run: Run, batch: StereoBatch, shares: tuple[float, float]) -> tuple[Tensor, bool]:
    """Add the gradient of one part, which lies where the network is; return its `_SUMS`, and whether glass is found."""
    config, fabric, (share, share_of_glass) = run.config, run.fabric, shares
    try:
        predictions, use, logits = run.model(batch.inputs.kwargs(), config.iters)
    except ValueError as error:
        raise TrainingError(f"step {run.step}: cannot use {', '.join(batch.names)}: {error}") from error
    loss = sequence_loss(
        predictions, batch.disparity, batch.valid, batch.glass, _polarization(batch),
        config.gamma, config.glass_weight, config.pol_weight,
    )  # fmt: skip
    whole, of_glass = loss, loss.new_zeros(())
    if logits is not None:
        of_glass = glass_loss(logits, batch.glass, batch.valid * batch.disparity.isfinite())
        # In units of the part's share in the whole loss; 1 where the glass of all samples is known.
        of_glass = of_glass * (share_of_glass / share if share else 0.0)
        whole = loss + config.glass_head_weight * of_glass
    fabric.backward(whole * (share * fabric.world_size), model=run.model)
    losses = (loss.double() * share, of_glass.double() * share)
    return _figures(batch, predictions[-1], use, losses, whole), logits is not None


@torch.no_grad()
def _figures(
    batch: StereoBatch, predicted: Tensor, use: Tensor, losses: tuple[Tensor, Tensor], whole: Tensor
) -> Tensor:
    """Return the `_SUMS` of one part, (9,) float64, where it was computed."""
    loss, of_glass = losses
    known, glass, other = (batch.valid > 0) & batch.disparity.isfinite(), batch.glass > 0, batch.glass <= 0
    error = torch.where(known, (predicted - batch.disparity).abs(), 0.0)
    figures = (
        loss, error.sum(), known.sum(), torch.where(glass, use, 0.0).sum(), glass.sum(),
        torch.where(other, use, 0.0).sum(), other.sum(), of_glass, ~whole.isfinite(),
    )  # fmt: skip
    return torch.stack([figure.double() for figure in figures])


def _reason_to_skip(total: dict[str, float], counted: float, norm: float) -> Skipped | None:
    if total["bad"]:
        return "loss"
    # Without this the loss is 0, and a run on data that has no valid pixel ends as if it had learned something.
    if not counted:
        return "ground truth"
    return None if math.isfinite(norm) else "gradient"


def _too_many_skipped(run: Run, what: Skipped, samples: Sequence[str]) -> str:
    row, last = run.skipped_in_a_row, ", ".join(samples)
    if what == "ground truth":
        return (
            f"step {run.step}: no pixel had a valid disparity for {row} steps in a row, last in {last}; wanted "
            "positive finite disparities, px of the left view, and a mask that is 1 where they are known"
        )
    return (
        f"step {run.step}: the {what} was not finite for {row} steps in a row, last for {last}; a lower --lr may "
        f"help, and {run.config.precision} as the precision is one possible cause"
    )


def _skip(run: Run, buffers: list[Tensor], what: Skipped, samples: list[str]) -> dict[str, Any]:
    """Undo what the forward pass changed, and say so."""
    for buffer, before in zip(run.net.buffers(), buffers, strict=True):
        buffer.copy_(before)
    if run.scaler is not None:
        run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    run.skipped += 1
    run.skipped_in_a_row += 1
    return {
        "skipped": what,
        "samples": samples,
        "skipped_in_a_row": run.skipped_in_a_row,
        "skipped_so_far": run.skipped,
    }


def _step(run: Run) -> None:
    clip_by_part(run.optimizer.param_groups, run.config.gradient_clip)
    run.optimizer.step()
    run.skipped_in_a_row = 0


def _train_mode(net: CrossPol, config: TrainConfig) -> None:
    net.train()
    for name, module in net.named_modules():
        still = config.freeze_batch_norm and isinstance(module, nn.BatchNorm2d)
        # What is frozen also keeps its statistics, and drops nothing out.
        if still or within(name, config.frozen):
            module.eval()


def _alpha(net: CrossPol) -> float:
    """Return the widest gate that polarization passes; 1 for a fusion without one, 0 without fusion."""
    return max(net.gates().values(), default=0.0)


def _counts(part: Part, device: torch.device) -> Tensor:
    """How many samples have any ground truth, and how many any where glass is known: (2,), on the device.

    Counted where the step is computed: of large batches a single core would take as long as a GPU does for the step.
    """
    valid, disparity, glass = (part.tensor(name, device, non_blocking=True) for name in ("valid", "disparity", "glass"))
    known = (valid >= 0.5) & disparity.isfinite()
    return torch.stack([where.flatten(1).any(dim=1).sum() for where in (known, known & glass.isfinite())])


def _polarization(batch: StereoBatch) -> Tensor | None:
    """Return how polarized the left view is, (B, 1, H, W) in [0, 1], where that was recorded."""
    if batch.pol_left is None or batch.valid_left is None:
        return None
    valid = batch.valid_left > 0
    return torch.where(valid, batch.pol_left[:, -1:], batch.pol_left.new_zeros(()))


def _reduce(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Add up over all processes."""
    if fabric.world_size == 1:
        return values
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=fabric.device)
    reduced = torch.as_tensor(fabric.all_reduce(tensor, reduce_op="sum"))
    return dict(zip(values, reduced.tolist(), strict=True))


def gather(fabric: Fabric, names: list[str]) -> list[str]:
    """Join the lists of all processes."""
    return [name for part in gather_objects(fabric, names) for name in part]


def gather_objects(fabric: Fabric, value: Any) -> list[Any]:
    """Return the values of all processes, by rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None
