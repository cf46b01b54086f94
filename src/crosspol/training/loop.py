"""The training loop."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from crosspol.data.procedural import ProceduralStereo
from crosspol.data.sample import StereoBatch, stack
from crosspol.metrics import epe
from crosspol.model import CrossPol, alpha_cap
from crosspol.training.config import TrainConfig
from crosspol.training.loss import sequence_loss
from crosspol.training.optimization import gradient_norms, one_cycle, parameter_groups
from crosspol.weights import load_raft_stereo

VALIDATION_SEED_OFFSET = 1_000_003
"""Added to the data seed for the held-out part: no training run with a smaller seed ever sees those scenes."""


def train(config: TrainConfig, output: Path, device: str = "cpu", progress: bool = True) -> CrossPol:
    """Train, or go on with the run whose checkpoint lies in `output`.

    Writes ``config.json``, ``log.jsonl``, ``checkpoint.pt`` and at the end ``weights/``.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(asdict(config), indent=2))
    torch.manual_seed(config.seed)
    net = CrossPol(config.network).to(device)
    checkpoint = output / "checkpoint.pt"
    if config.pretrained != "none" and not checkpoint.exists():
        print(load_raft_stereo(net, config.pretrained))
    optimizer = torch.optim.AdamW(
        parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay), lr=config.lr
    )
    schedule = one_cycle(optimizer, config.num_steps)
    step = _resume(checkpoint, net, optimizer, schedule) if checkpoint.exists() else 0

    started, first = time.monotonic(), step
    bar = tqdm(total=config.num_steps, initial=step, unit="step", disable=not progress)
    with (output / "log.jsonl").open("a", buffering=1) as log:
        for batch in _batches(config, step):
            record = training_step(config, net, optimizer, schedule, batch.to(device), step)
            step += 1
            net.alpha_cap.fill_(alpha_cap(step, config.alpha_cap_start, config.alpha_cap_warmup))
            bar.update()
            bar.set_postfix(loss=f"{record['loss']:.2f}", epe=f"{record['epe']:.2f}", alpha=f"{record['alpha']:.1e}")
            last = step == config.num_steps
            if step % config.validate_every == 0 or last:
                record |= {f"valid_{name}": value for name, value in validate(config, net, device).items()}
            if step % config.log_every == 0 or step % config.validate_every == 0 or last:
                elapsed = time.monotonic() - started
                log.write(json.dumps({"step": step, "seconds_per_step": elapsed / (step - first), **record}) + "\n")
            if step % config.checkpoint_every == 0 or last:
                _save(checkpoint, net, optimizer, schedule, step)
    bar.close()
    net.save_pretrained(output / "weights")
    return net.eval()


def training_step(
    config: TrainConfig,
    net: CrossPol,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    batch: StereoBatch,
    step: int,
) -> dict[str, Any]:
    """Take one optimizer step on a batch and return what is worth logging."""
    net.train()
    with torch.autocast(batch.left.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        out = net(**batch.inputs(), iters=config.iters)
    pol = None if batch.pol_left is None or batch.valid_left is None else batch.pol_left[:, -1:] * batch.valid_left
    loss = sequence_loss(
        out.predictions, batch.disparity, batch.valid, batch.glass, pol,
        config.gamma, config.glass_weight, config.pol_weight,
    )  # fmt: skip
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"step {step}: the loss is {loss.item()} for {', '.join(batch.identity)}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norms = gradient_norms(net)
    torch.nn.utils.clip_grad_norm_(net.parameters(), config.gradient_clip)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    optimizer.step()
    schedule.step()
    glass = batch.glass > 0
    return {
        "loss": loss.item(),
        "epe": float((out.disparity - batch.disparity).abs()[batch.valid > 0].mean()),
        "alpha": float(net.fusion.alpha(net.alpha_cap)) if hasattr(net.fusion, "alpha") else 0.0,
        "alpha_cap": float(net.alpha_cap),
        "injected_glass": float(out.polarization_use[glass].mean()) if glass.any() else None,
        "injected_elsewhere": float(out.polarization_use[~glass].mean()),
        "lr": rates,
        "gradient_norm": norms,
    }


@torch.no_grad()
def validate(config: TrainConfig, net: CrossPol, device: str) -> dict[str, float]:
    """Return mean EPE (px) over the scenes of the held-out part: all pixels, glass, background."""
    net.eval()
    held_out = ProceduralStereo(
        replace(config.data, seed=config.data.seed + VALIDATION_SEED_OFFSET, length=config.validate_samples)
    )
    errors: dict[str, list[torch.Tensor]] = {"epe": [], "epe_glass": [], "epe_background": []}
    for batch in DataLoader(held_out, batch_size=1, collate_fn=stack, num_workers=0):
        batch = batch.to(device)
        disparity = net(**batch.inputs(), iters=config.valid_iters).disparity
        for name, mask in (
            ("epe", batch.valid),
            ("epe_glass", batch.valid * batch.glass),
            ("epe_background", batch.valid * (1 - batch.glass)),
        ):
            errors[name].append(epe(disparity, batch.disparity, mask))
    return {name: float(torch.cat(values).nanmean()) for name, values in errors.items()}


def _batches(config: TrainConfig, step: int) -> Iterator[StereoBatch]:
    """Yield the batches from `step` on; sample i of the stream is the same whatever came before."""
    samples = ProceduralStereo(replace(config.data, length=config.num_steps * config.batch_size))
    rest = Subset(samples, range(step * config.batch_size, len(samples)))
    yield from DataLoader(
        rest, config.batch_size, collate_fn=stack, num_workers=config.workers, persistent_workers=config.workers > 0
    )


def _save(
    path: Path,
    net: CrossPol,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    step: int,
) -> None:
    state = {
        "network": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "step": step,
        "random": torch.get_rng_state(),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _resume(
    path: Path, net: CrossPol, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> int:
    state = torch.load(path, weights_only=True)
    net.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    return int(state["step"])
