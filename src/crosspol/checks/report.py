"""The checks that `crosspol rig check` and `crosspol doctor` choose from, and the report that they make.

A check takes what it needs of what is known and returns findings; where something that it needs is missing, it is
left out. A new check is a function in a module of this room and a line in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from crosspol.checks.calibration import check_calibration, check_depths
from crosspol.checks.findings import Finding, Verdict
from crosspol.checks.matching import Matches, gray, match
from crosspol.checks.pair import check_pair
from crosspol.checks.polarization import Polarization, check_agreement, check_contrast, check_polarization
from crosspol.checks.values import check_views_agree
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["CHECKS", "Evidence", "Report", "look"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a pair.

    left, right: the views as the network would get them: of one size, rectified where they can be.
    kind: of the rig.
    rectified_by: name of the calibration that they were rectified with; None where they came as they are.
    swapped: the rig's `swap_views`.
    calibration: the file's, with the sizes (H, W) of the left and right images that it is to fit; None: there is none.
    of_views: calibration of `left` and `right`, rectified; None where it is not known.
    polarization: of both views; None of a view without.
    right_offset_deg: the right camera's `angle_offset_deg`, which is in its polarization.
    bins: how many pixels of each view's images, along each axis, binning would make one; 1: none could.
    """

    left: Frame
    right: Frame
    kind: RigKind = "none"
    rectified_by: str | None = None
    swapped: bool = False
    calibration: tuple[StereoCalibration, tuple[int, int], tuple[int, int]] | None = None
    of_views: StereoCalibration | None = None
    polarization: tuple[Polarization | None, Polarization | None] = (None, None)
    right_offset_deg: float = 0.0
    bins: tuple[int, int] = (1, 1)

    @cached_property
    def matches(self) -> Matches:
        """What both views have in common."""
        return match(gray(self.left), gray(self.right))

    @cached_property
    def pair(self) -> tuple[Finding, ...]:
        """What `check_pair` says, on which others depend."""
        return tuple(check_pair(self.left, self.right, self.matches, self.rectified_by, self.swapped))

    @property
    def comparable(self) -> bool:
        """Whether both views show one scene, so that the same thing can be compared in both."""
        return self.matches.related and bool(self.matches.agrees.mean() > 0.5)

    @property
    def in_order(self) -> bool:
        """Whether left is left and rows correspond."""
        return self.comparable and not any(
            finding.verdict == "wrong" and finding.topic in ("order", "rows", "flip") for finding in self.pair
        )


def _calibration(known: Evidence) -> list[Finding]:
    return [] if known.calibration is None else check_calibration(*known.calibration, known.bins)


def _depths(known: Evidence) -> list[Finding]:
    if not known.comparable:
        return []
    if not known.in_order:
        return [Finding("disparity", "unsure", "how large it is shows once order and rows are right")]
    return check_depths(known.matches, known.of_views)


def _views_agree(known: Evidence) -> list[Finding]:
    # A polarizer takes half of the light; through crossed ones highlights differ by what is to be seen.
    alike = known.kind in ("none", "quad")
    return check_views_agree(known.left, known.right, known.matches, alike) if known.comparable else []


def _polarization(side: int) -> Callable[[Evidence], list[Finding]]:
    def check(known: Evidence) -> list[Finding]:
        polarization = known.polarization[side]
        frame = (known.left, known.right)[side]
        return [] if polarization is None else check_polarization(polarization, frame)

    return check


def _agreement(known: Evidence) -> list[Finding]:
    left, right = known.polarization
    if not known.comparable:
        return []
    if known.kind == "crossed":
        return check_contrast(known.left, known.right, known.matches)
    if left is None or right is None:
        return []
    return check_agreement(left, right, known.matches, known.right_offset_deg)


CHECKS: dict[str, tuple[str, Callable[[Evidence], list[Finding]]]] = {
    "calibration": ("pair", _calibration),
    "pair": ("pair", lambda known: list(known.pair)),
    "depths": ("pair", _depths),
    "views": ("pair", _views_agree),
    "left polarization": ("left", _polarization(0)),
    "right polarization": ("right", _polarization(1)),
    "agreement": ("pair", _agreement),
}
"""By name: under which heading of a report its findings come, and the check."""


def look(known: Evidence, names: Sequence[str] = tuple(CHECKS)) -> dict[str, list[Finding]]:
    """Carry out checks of `CHECKS`; findings by heading."""
    found: dict[str, list[Finding]] = {}
    for name in names:
        heading, check = CHECKS[name]
        found.setdefault(heading, []).extend(check(known))
    return found


@dataclass(frozen=True, eq=False)
class Report:
    """What was found.

    names: of the views, "left" and "right": their first file.
    frames: of the views; rectified where there is a calibration and there are two.
    findings: of the views and of the "pair".
    evidence: what the pair's checks looked at; None where there is one view, or two that cannot be compared.
    """

    names: dict[str, str]
    frames: dict[str, Frame]
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    evidence: Evidence | None = None

    @property
    def wrong(self) -> list[Finding]:
        """The findings that say something is wrong."""
        return self._with("wrong")

    @property
    def unsure(self) -> list[Finding]:
        """The findings that could not tell."""
        return self._with("unsure")

    @property
    def unsure_topics(self) -> list[str]:
        """What could not be told, with the view it is of: "left layout"."""
        return [f"{view} {finding.topic}" for view, finding in self._all() if finding.verdict == "unsure"]

    @property
    def conclusion(self) -> str:
        """The last line; "looks right" only where everything could be told."""
        if self.wrong:
            return f"{len(self.wrong)} {'thing is' if len(self.wrong) == 1 else 'things are'} wrong"
        if self.unsure:
            topics = ", ".join(self.unsure_topics)
            return f"nothing is wrong in what these frames show; they do not tell: {topics} (see ?)"
        return "looks right"

    def add(self, found: dict[str, list[Finding]]) -> None:
        """Put findings under their headings."""
        for heading, findings in found.items():
            if findings:
                self.findings.setdefault(heading, []).extend(findings)

    def _with(self, verdict: Verdict) -> list[Finding]:
        return [finding for _, finding in self._all() if finding.verdict == verdict]

    def _all(self) -> Iterator[tuple[str, Finding]]:
        return ((heading, finding) for heading, findings in self.findings.items() for finding in findings)
