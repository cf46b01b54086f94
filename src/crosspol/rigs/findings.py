"""What a check of a rig finds, in words."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding", "Verdict", "percent"]

Verdict = Literal["right", "wrong", "unsure"]


class Finding(NamedTuple):
    """One thing that was looked at.

    topic: format, compression, exposure, levels, layout, gamma, calibration, rectification, order, rows or timing.
    verdict: "right", "wrong", or "unsure" where the frames do not tell.
    text: what was measured, what it means, and what to do.
    """

    topic: str
    verdict: Verdict
    text: str


def percent(share: float) -> str:
    """A share in words: "4.5 %", and "less than 0.1 %" rather than 0 for what is there."""
    return "less than 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
