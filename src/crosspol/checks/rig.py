"""What is wrong with a rig's frames, or with a pair of ordinary images, in words.

A finding says what was measured, what it means and, where it can, what to change. "unsure" is an answer too: a scene
without polarization says nothing about the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crosspol.checks.findings import Finding
from crosspol.checks.frame import check_recording
from crosspol.checks.polarization import Polarization, polarization_of
from crosspol.checks.report import CHECKS, Evidence, Report, look
from crosspol.checks.values import image_of
from crosspol.errors import MissingFileError, UsageError, words_of
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.frames import Frame, Recording, frame_of, read_recording, read_recordings
from crosspol.rigs.reader import RigReader
from crosspol.rigs.recordings import FrameFiles
from crosspol.rigs.rectification import rectification, resample
from crosspol.rigs.rig import Camera, Rig

__all__ = ["RIG_CHECKS", "check_images", "check_rig"]

RIG_CHECKS = ("calibration", "pair")
"""Those of `CHECKS` that ask whether a rig is what its description says, whatever it looks at."""


def check_rig(rig: Rig, frames: Sequence[FrameFiles], names: Sequence[str] = RIG_CHECKS) -> Report:
    """Look for what is commonly wrong with a rig.

    Args:
        rig: the description to hold against the frames.
        frames: files of the left view, or of the left and of the right view.
        names: of the checks of a pair.

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
    report = _of_views(recordings, rig.kind == "crossed")
    if len(frames) == 1 or not _readable(report):
        return report
    calibration, found = (None, []) if rig.calibration_path is None else _read(rig.calibration_path)
    left, right = report.frames.values()
    bins = _bins(rig.camera_of("left")), _bins(rig.camera_of("right"))
    offset = rig.camera_of("right").angle_offset_deg
    evidence = Evidence(left, right, rig.kind, swapped=rig.swap_views, right_offset_deg=offset, bins=bins)
    # As the reader takes it, which knows of binning.
    fitting = None if calibration is None else RigReader(rig, calibration).fitting(calibration, left.size, right.size)
    if fitting is not None:
        evidence = replace(evidence, calibration=(fitting, left.size, right.size))
    if fitting is None or _wrong_size(fitting, left, right):
        if left.size != right.size:
            return _with_sizes(report, left, right, look(evidence, ["calibration"]))
    else:
        rectified = RigReader(rig, calibration).rectify(left, right)
        assert calibration is not None
        assert rig.calibration_path is not None  # it was read from there
        report.frames.update(left=rectified.left, right=rectified.right)
        evidence = replace(
            evidence,
            left=rectified.left,
            right=rectified.right,
            rectified_by=rig.calibration_path.name,
            of_views=rectified.calibration,
        )
        of_file = calibration.warnings
        found += [Finding("rectification", "wrong", text) for text in rectified.warnings if text not in of_file]
    return _with_pair(report, evidence, found, names)


def check_images(
    images: tuple[NDArray[Any], NDArray[Any]],
    names: tuple[str, str],
    calibration: Path | None = None,
    polarization: tuple[Polarization | None, Polarization | None] = (None, None),
) -> Report:
    """Look for what is commonly wrong with a pair of ordinary images that should be rectified.

    Args:
        images: left and right, as `crosspol.io.images.read_image` returns them.
        names: what to call them.
        calibration: the file with theirs.
        polarization: of both views.

    Raises:
        MissingFileError: there is no such calibration.
        UsageError: no image, of another type, or smaller than the network takes.
    """
    recordings, values = {}, {}
    for side, image, name in zip(("left", "right"), images, names, strict=True):
        recordings[side], values[side] = image_of(image, name)
    report = _of_views(recordings, findings=values)
    known, found = (None, []) if calibration is None else _read(calibration)
    left, right = report.frames.values()
    if not _readable(report):
        return report
    maps = [
        None if one is None or one.valid.shape != frame.size else one
        for one, frame in zip(polarization, (left, right), strict=True)
    ]
    evidence = Evidence(left, right, polarization=(maps[0], maps[1]))
    if known is not None:
        evidence = replace(evidence, calibration=(known, left.size, right.size))
    if left.size != right.size:
        return _with_sizes(report, left, right, look(evidence, ["calibration"]))
    for side, one, kept in zip(("left", "right"), polarization, maps, strict=True):
        if one is not None and kept is None:
            (height, width), (other, across) = one.valid.shape, left.size
            text = f"its polarization map is of {width}x{height} px, the image of {across}x{other} px"
            report.add({side: [Finding("valid", "wrong", text, "give the map of this image")]})
    if known is not None and not _wrong_size(known, left, right):
        if known.rectified:
            evidence = replace(evidence, of_views=known)
        elif calibration is not None:
            found += _of_raw_views(evidence, known, calibration)
    return _with_pair(report, evidence, found, tuple(CHECKS))


def _of_raw_views(evidence: Evidence, calibration: StereoCalibration, path: Path) -> list[Finding]:
    """Say whether images are the raw views that a calibration with lenses and a rotation is of."""
    do = f"predict with a rig: crosspol rig init rig.yaml --kind none, calibration: {path.name}, then --rig rig.yaml"
    if evidence.in_order:
        text = f"{path.name} is of raw views (lens distortion or rotation), but the rows of these correspond already"
        depth = "use the calibration of the rectified images (P1, P2 of stereoRectify) for depth"
        means = "rectified once more the images bend; depth by the raw K is off"
        return [Finding("rectification", "unsure", text, depth, means)]
    maps = rectification(calibration, evidence.left.size, evidence.right.size)
    left, right = resample(evidence.left, maps.left), resample(evidence.right, maps.right)
    mended = Evidence(left, right, rectified_by=path.name, of_views=maps.calibration)
    if not mended.in_order:
        return []
    text = f"these are raw views: rectified by {path.name}, their rows correspond"
    means = "the network looks along rows only: disparity is blurred or noise"
    return [Finding("rectification", "wrong", text, do, means)]


def _bins(camera: Camera) -> int:
    """How many pixels of a camera's images, along each axis, `demosaic: binning` would make one; 1: none could."""
    return 1 if camera.binning > 1 else replace(camera, demosaic="binning").binning


def _of_full_size(recording: Recording, frame: Frame) -> Frame:
    """The frame with a pixel for each stored one, as a recording is looked at."""
    if recording.camera.binning == 1:
        return frame
    return frame_of(replace(recording, camera=replace(recording.camera, demosaic="edge-aware")))


def _of_views(
    recordings: dict[str, Recording], crossed: bool = False, findings: dict[str, list[Finding]] | None = None
) -> Report:
    """Look at every view alone."""
    frames = {view: frame_of(recording) for view, recording in recordings.items()}
    report = Report({view: recording.name for view, recording in recordings.items()}, frames)
    for view, recording in recordings.items():
        found = [] if findings is None else findings[view]
        if not any(finding.topic == "format" for finding in found):
            alone = check_recording(recording, _of_full_size(recording, frames[view]), crossed)
            if any(finding.verdict == "wrong" for finding in found):
                # What another range makes look too bright or too dark need not be the exposure.
                alone = [
                    finding._replace(verdict="unsure", do=f"{finding.do}; but see values first")
                    if finding.verdict == "wrong"
                    else finding
                    for finding in alone
                ]
            found = [*found, *alone]
        report.add({view: found})
    return report


def _readable(report: Report) -> bool:
    """Whether both views are images; says so where one is not."""
    if all(finding.topic != "format" for found in report.findings.values() for finding in found):
        return True
    text = "the views can be compared once their files are read right"
    report.add({"pair": [Finding("rows", "unsure", text)]})
    return False


def _read(path: Path) -> tuple[StereoCalibration | None, list[Finding]]:
    """Read a calibration; what it says wrong is a finding, and a file that is not there is none."""
    try:
        return read_calibration(path), []
    except MissingFileError:
        raise
    except UsageError as error:
        do = "see the table of calibration files in docs/rigs.md"
        return None, [Finding("calibration", "wrong", words_of(error), do, "there is no depth, and no rectification")]


def _wrong_size(calibration: StereoCalibration, left: Frame, right: Frame) -> bool:
    cameras = (calibration.left, left), (calibration.right, right)
    return any(camera.size is not None and camera.size != frame.size[::-1] for camera, frame in cameras)


def _with_sizes(report: Report, left: Frame, right: Frame, found: dict[str, list[Finding]]) -> Report:
    (height, width), (other, across) = left.size, right.size
    text = f"the left view is {width}x{height} px, the right one {across}x{other} px"
    means = "there are no rows to look along: prediction is refused"
    do = "store both at one size, cropped alike; of cameras that differ, give the rig a calibration"
    report.add({"pair": [Finding("size", "wrong", text, do, means)]})
    report.add(found)
    return report


def _with_pair(report: Report, evidence: Evidence, found: list[Finding], names: Sequence[str]) -> Report:
    if evidence.polarization == (None, None):
        measured = polarization_of(evidence.left), polarization_of(evidence.right)
        evidence = replace(evidence, polarization=measured)
    report.add({"pair": found})
    report.add(look(evidence, names))
    return replace(report, evidence=evidence)
