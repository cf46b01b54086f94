"""Refinement that ends where it has converged."""

from __future__ import annotations

import math
import os

from torch import Tensor

from crosspol.errors import UsageError
from crosspol.io.hashes import sha256_of
from crosspol.io.reading import check_file
from crosspol.io.structured import read_json
from crosspol.model.network import Watch
from crosspol.model.shipped import WEIGHTS_FILE, weights_folder

__all__ = ["RECORD", "Convergence", "check_tolerance", "stored_tolerance"]

RECORD = "convergence.json"
"""Beside the weights: the tolerance that was found for them, and how (`python -m benchmarks.adaptive`)."""


class Convergence:
    """Watches a refinement and ends it when every pair's mean step is at most the tolerance.

    Args:
        tolerance: mean of \\|step\\| over a pair, px, from which on it counts as converged.
        after: iterations that are made in any case; of a crossed pair the last after which its contrast is formed
            again, because that moves a converged estimate once more.
        others: who watches as well; True from there ends the refinement too.
    """

    def __init__(self, tolerance: float, after: int = 0, others: Watch | None = None) -> None:
        self.tolerance, self.after, self.others = check_tolerance(tolerance), after, others
        self.iterations = 0
        """That were made."""

    def __call__(self, iteration: int, step: Tensor) -> bool:
        """Say whether iteration `iteration`, whose step (B, 1, h, w) is in px, is the last one."""
        self.iterations = iteration
        stop = self.others is not None and self.others(iteration, step)
        if iteration <= self.after:
            return stop
        # A batch goes on until its last pair has converged; a step that is not a number has not.
        slowest = float(step.float().abs().mean(dim=(1, 2, 3)).max())
        return stop or slowest <= self.tolerance


def check_tolerance(tolerance: float) -> float:
    """Return a tolerance.

    Raises:
        UsageError: it is no size in px.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 < tolerance < math.inf:
        raise UsageError(f"tolerance: got {tolerance!r}, wanted a mean step in px, more than 0")
    return float(tolerance)


def stored_tolerance(weights: str | os.PathLike[str] | None) -> float:
    """Return the tolerance that was found for weights on held-out scenes: it changes their EPE by at most 0.01 px.

    Args:
        weights: a folder, the name of a preset whose weights ship, or None for the default, `crosspol`'s.

    Raises:
        MissingFileError: the folder holds no weights.
        UsageError: none was found for them, or the file that holds it is damaged or of other weights.
    """
    folder = weights_folder(weights)
    path = folder / RECORD
    if not path.exists():
        raise UsageError(
            f"{weights}: got no {RECORD} beside the weights, wanted a tolerance found for them "
            "(python -m benchmarks.adaptive), or one in px"
        )
    try:
        record = read_json(path)
        tolerance, of = check_tolerance(record["tolerance_px"]), str(record["weights_sha256"])
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise UsageError(f"{path}: got no tolerance_px above 0, wanted what benchmarks.adaptive writes") from error
    check_file(folder / WEIGHTS_FILE)
    if sha256_of(folder / WEIGHTS_FILE) != of:
        raise UsageError(f"{path}: got a tolerance of other weights, wanted one found for these (benchmarks.adaptive)")
    return tolerance
