"""One step of training: forward, backward, and either an optimizer step or a step skipped and explained."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from crosspol.data.sample import StereoBatch
from crosspol.model import CrossPol, StereoOutput, alpha_cap
from crosspol.training.average import update_average
from crosspol.training.clipping import clip_by_part
from crosspol.training.config import TrainConfig
from crosspol.training.errors import TrainingError
from crosspol.training.loss import glass_loss, sequence_loss
from crosspol.training.optimization import gradient_norms, set_rates, within

_SUMS = (
    "loss", "error", "valid", "glass_use", "glass", "other_use", "other", "glass_loss", "glass_heads",
    "bad", "terminate", "interrupt",
)  # fmt: skip


class Forward(nn.Module):
    """The network as the launcher wraps it: plain tuples out, for it copies no frozen dataclass."""

    def __init__(self, net: CrossPol) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: dict[str, Tensor], iters: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
        """Return the predictions, each (B, 1, H, W) px, the use of polarization (B, 1, H, W), and logits of glass."""
        out = self.net(**inputs, iters=iters)
        return out.predictions, out.polarization_use, glass_logits(out)


@dataclass
class Run:
    """Everything that changes while a run goes on, and what it is computed with."""

    config: TrainConfig
    fabric: Fabric
    net: CrossPol
    model: Any
    """The network inside `Forward`, as Fabric wraps it."""
    optimizer: Any
    """As Fabric wraps it; torch's own is its ``optimizer``."""
    average: CrossPol | None = None
    """Moving average of the weights, where one is wanted."""
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: float = math.inf
    """Lowest score of a validation so far."""

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What scales the loss in float16."""
        precision = self.fabric.strategy.precision
        return precision.scaler if isinstance(precision, MixedPrecision) else None


def train_step(run: Run, parts: Sequence[StereoBatch], signal_number: int = 0) -> tuple[dict[str, Any], int]:
    """Take one step on this process's parts of a batch.

    A loss or gradient that is not finite leaves weights, optimizer and norm statistics as they were; the step still
    counts, so that schedule, cap and stream go on.

    Args:
        run: changed in place.
        parts: of the batch, not empty.
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
    sums, bad = _gradients(run, parts)
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
    if total["glass_heads"]:
        record["glass_loss"] = total["glass_loss"]
    if total["bad"] or not math.isfinite(norm):
        what = "loss" if total["bad"] else "gradient"
        names = gather(fabric, bad if total["bad"] else [name for part in parts for name in part.identity])
        record |= _skip(run, buffers, what, names)
    else:
        _step(run)
    run.step += 1
    net.alpha_cap.fill_(alpha_cap(run.step, config.alpha_cap_start, config.alpha_cap_warmup))
    if run.average is not None:
        update_average(run.average, net, config.ema_decay, run.step)
    if run.skipped_in_a_row >= config.max_skipped:
        raise TrainingError(
            f"step {run.step}: the {record['skipped']} was not finite for {run.skipped_in_a_row} steps in a row, last "
            f"for {', '.join(record['samples'])}; a lower --lr may help, and {config.precision} as the precision is "
            "one possible cause"
        )
    if total["terminate"]:
        return record, int(signal.SIGTERM)
    return record, int(signal.SIGINT) if total["interrupt"] else 0


def _gradients(run: Run, parts: Sequence[StereoBatch]) -> tuple[dict[str, float], list[str]]:
    """Add up the gradients of the parts.

    Returns:
        Sums over this process's parts (``loss`` is its share of the batch's), and the samples of parts whose loss is
        not finite.
    """
    config, fabric = run.config, run.fabric
    # The loss is a mean over the samples that have ground truth. Processes and parts may have different numbers of
    # them, so each weighs by its own; DDP then divides by the number of processes.
    counted = [_counted(part) for part in parts]
    everywhere = max(1.0, _reduce(fabric, {"counted": float(sum(counted))})["counted"])
    run.optimizer.zero_grad(set_to_none=True)
    sums = dict.fromkeys(_SUMS, 0.0)
    bad: list[str] = []
    for index, (part, count) in enumerate(zip(parts, counted, strict=True)):
        batch = part.to(fabric.device, non_blocking=True)
        with fabric.no_backward_sync(run.model, enabled=index < len(parts) - 1):
            try:
                predictions, use, logits = run.model(batch.inputs.kwargs(), config.iters)
            except ValueError as error:
                raise TrainingError(f"step {run.step}: cannot use {', '.join(batch.identity)}: {error}") from error
            loss = sequence_loss(
                predictions, batch.disparity, batch.valid, batch.glass, _polarization(batch),
                config.gamma, config.glass_weight, config.pol_weight,
            )  # fmt: skip
            share, whole = count / everywhere, loss
            if logits is not None:
                of_glass = glass_loss(logits, batch.glass, batch.valid * batch.disparity.isfinite())
                whole = loss + config.glass_head_weight * of_glass
                sums["glass_loss"] += of_glass.item() * share
                sums["glass_heads"] += 1
            fabric.backward(whole * (share * fabric.world_size), model=run.model)
        with torch.no_grad():
            sums["loss"] += loss.item() * share
            known = (batch.valid > 0) & batch.disparity.isfinite()
            sums["error"] += float((predictions[-1] - batch.disparity).abs()[known].sum())
            sums["valid"] += float(known.sum())
            glass = batch.glass > 0
            sums["glass_use"] += float(use[glass].sum())
            sums["glass"] += float(glass.sum())
            sums["other_use"] += float(use[~glass].sum())
            sums["other"] += float((~glass).sum())
        if not math.isfinite(whole.item()):
            sums["bad"] += 1
            bad += batch.identity
    return sums, bad


def _skip(run: Run, buffers: list[Tensor], what: str, samples: list[str]) -> dict[str, Any]:
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


def glass_logits(out: StereoOutput) -> Tensor | None:
    """Return the logits of "the first surface is glass" (B, 1, H, W); None of a network without a glass head."""
    return getattr(out, "glass_logits", None)


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


def _counted(batch: StereoBatch) -> int:
    """How many samples have any ground truth."""
    known = (batch.valid >= 0.5) & batch.disparity.isfinite()
    return int(known.flatten(1).any(dim=1).sum())


def _polarization(batch: StereoBatch) -> Tensor | None:
    """Return how polarized the left view is, (B, 1, H, W) in [0, 1], where that was recorded."""
    if batch.pol_left is None or batch.valid_left is None:
        return None
    trusted = batch.valid_left > 0
    return torch.where(trusted, batch.pol_left[:, -1:], batch.pol_left.new_zeros(()))


def _reduce(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Add up over all processes."""
    if fabric.world_size == 1:
        return values
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=fabric.device)
    reduced = torch.as_tensor(fabric.all_reduce(tensor, reduce_op="sum"))
    return dict(zip(values, reduced.tolist(), strict=True))


def gather(fabric: Fabric, names: list[str]) -> list[str]:
    """Join the lists of all processes."""
    if fabric.world_size == 1:
        return names
    lists: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(lists, names)
    return [name for part in lists for name in part]


def _ratio(total: float, count: float) -> float | None:
    return total / count if count else None
