"""What is wrong with a rig's frames, in words.

A finding says what was measured, what it means and, where it can, what to change. "unsure" is an answer too: a scene
without polarization says nothing about the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crosspol.errors import UsageError
from crosspol.rigs.check_frame import check_recording
from crosspol.rigs.check_pair import check_pair
from crosspol.rigs.findings import Finding, Verdict
from crosspol.rigs.frames import Frame, Recording, frame_of, read_recording, read_recordings
from crosspol.rigs.reader import RigReader
from crosspol.rigs.recordings import FrameFiles
from crosspol.rigs.rig import Rig

__all__ = ["Finding", "RigReport", "check_rig"]


@dataclass(frozen=True, eq=False)
class RigReport:
    """What `check_rig` found.

    names: of the views, "left" and "right": their first file.
    frames: of the views; rectified where the rig has a calibration and there are two.
    findings: of the views and of the "pair".
    """

    names: dict[str, str]
    frames: dict[str, Frame]
    findings: dict[str, list[Finding]]

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
        return [
            f"{view} {finding.topic}"
            for view, found in self.findings.items()
            for finding in found
            if finding.verdict == "unsure"
        ]

    def _with(self, verdict: Verdict) -> list[Finding]:
        return [finding for found in self.findings.values() for finding in found if finding.verdict == verdict]


def check_rig(rig: Rig, frames: Sequence[FrameFiles]) -> RigReport:
    """Look for what is commonly wrong with a rig.

    Args:
        rig: the description to hold against the frames.
        frames: files of the left view, or of the left and of the right view.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the rig says, or neither one nor two frames are given.
    """
    if len(frames) == 1:
        recordings = {"left": read_recording(frames[0], rig.camera_of("left"))}
    elif len(frames) == 2:
        recordings = dict(zip(("left", "right"), read_recordings(rig, frames[0], frames[1]), strict=True))
    else:
        raise UsageError(f"got {len(frames)} frames, wanted one, or the left and the right one of a pair")
    images = {view: frame_of(recording) for view, recording in recordings.items()}
    findings = {
        view: check_recording(recording, _of_full_size(recording, images[view]), rig.kind == "crossed")
        for view, recording in recordings.items()
    }
    if len(images) == 2 and any(finding.topic == "format" for found in findings.values() for finding in found):
        text = "the views can be compared once their files are read right"
        findings["pair"] = [Finding("rows", "unsure", text)]
    elif len(images) == 2:
        images, rectified = _rectified(RigReader(rig), images)
        calibration = None if rig.calibration_path is None else rig.calibration_path.name
        pair = check_pair(images["left"], images["right"], calibration, rig.swap_views)
        findings["pair"] = rectified + pair
    return RigReport({view: recording.name for view, recording in recordings.items()}, images, findings)


def _of_full_size(recording: Recording, frame: Frame) -> Frame:
    """The frame with a pixel for each stored one, as a recording is looked at."""
    if recording.camera.binning == 1:
        return frame
    return frame_of(replace(recording, camera=replace(recording.camera, demosaic="edge-aware")))


def _rectified(reader: RigReader, frames: dict[str, Frame]) -> tuple[dict[str, Frame], list[Finding]]:
    """Rectify as the predictor does; a warning on the way is a finding."""
    pair = reader.rectify(frames["left"], frames["right"])
    of_file = () if reader.calibration is None else reader.calibration.warnings
    found = [
        Finding("calibration" if message in of_file else "rectification", "wrong", message) for message in pair.warnings
    ]
    return {"left": pair.left, "right": pair.right}, found
