"""Arithmetic without TF32: one switch for prediction, validation and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_tf32(device: torch.device | None = None) -> Iterator[None]:
    """Turn TF32 off for the time of a call, in convolutions and in matrix products.

    By default a GPU rounds the inputs of convolutions to 10 bits. For a device that is no such GPU nothing is done;
    None is any device. What was set before is set again at the end.
    """
    if device is not None and device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:
        # Whoever set precisions by torch's newer names, which these cannot express, chose them; they stay.
        yield
        return
    cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
