"""Physics is computed in the type that it is given, whatever the caller has autocast do to networks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["without_autocast"]


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context in which nothing is rounded to half precision on a device such as ``cpu``."""
    # Only where it is on: a graph that is traced keeps free of it, and some devices (meta) know nothing of it.
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()
