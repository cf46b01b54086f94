"""What a check of a pair or a rig finds, in words."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding", "Verdict", "percent"]

Verdict = Literal["right", "wrong", "unsure"]

_MEANS = {
    "values": "brightness means something else than the network expects: it sees a black, a white or a flat image",
    "format": "no image: whatever is computed from it is noise",
    "compression": "the angles of neighboring pixels are mixed: polarization is an artifact",
    "exposure": "what is clipped or black has no texture to match and no polarization",
    "levels": "light and polarization are scaled wrongly: DoLP looks weaker or stronger than it is",
    "layout": "DoLP and AoLP are of something else: polarization misleads",
    "gamma": "intensities are not light: DoLP is wrong, and polarization appears where there is none",
    "size": "the views and the calibration do not belong together",
    "calibration": "disparity in px stays as it is; depth in meters and point clouds are wrong",
    "rectification": "the polarizers no longer pass 0 and 90 degrees: the contrast is weaker than it is",
    "order": "the network looks to the left for what is on the right: disparity is noise, mostly near 0",
    "flip": "nothing corresponds: disparity is noise",
    "rows": "the network looks along rows only: disparity is blurred from half a pixel on and noise from a few on",
    "timing": "what moved has a wrong disparity",
    "brightness": "the same thing looks different in both views: matching gets weaker where there is little texture",
    "color": "the same thing has another color in both views: matching gets weaker",
    "disparity": "the largest disparities may be missed",
    "depth": "depth in meters is wrong by that factor; disparity in px is not",
    "prediction": "the disparity that this network finds is not what both views show",
    "valid": "where polarization is not valid the network does without it",
    "degree": "polarization brings little, or misleads",
    "noise": "the network sees random polarization: it brings nothing at best",
    "agreement": "the two views tell the network different things about one surface",
    "contrast": "glass looks like its opposite: polarization misleads",
}
"""What it means for the result where something is wrong with a topic and the finding does not say."""


class Finding(NamedTuple):
    """One thing that was looked at.

    topic: what was looked at, a word that is the same wherever it is looked at: exposure, rows, calibration, ...
    verdict: "right", "wrong", or "unsure" where what there is does not tell.
    found: what was measured, and what is behind it.
    do: what to do, with the command or the key; empty where there is nothing to do.
    means: what it means for the result; empty for what the topic always means.
    """

    topic: str
    verdict: Verdict
    found: str
    do: str = ""
    means: str = ""

    @property
    def text(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.found}: {self.do}" if self.do else self.found

    @property
    def consequence(self) -> str:
        """What it means for the result; empty where nothing is wrong."""
        return "" if self.verdict == "right" else self.means or _MEANS.get(self.topic, "")


def percent(share: float) -> str:
    """A share in words: "4.5 %", and "less than 0.1 %" rather than 0 for what is there."""
    return "less than 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
