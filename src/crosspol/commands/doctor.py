"""`crosspol doctor`: what is wrong with a pair, in words and one picture."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from crosspol.checks.findings import Finding
from crosspol.checks.polarization import Polarization
from crosspol.checks.prediction import check_prediction
from crosspol.checks.report import CHECKS, Report
from crosspol.checks.rig import check_images, check_rig
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.reports import as_text
from crosspol.data.arguments import as_polarization
from crosspol.errors import UsageError, refuse, words_of
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import read_image
from crosspol.light import encode_srgb
from crosspol.rigs.rig import Rig, read_rig
from crosspol.visualization.pair_sheet import write_pair_sheet
from crosspol.visualization.rig_sheet import unused_name

_PICTURE = "doctor.png"
_A_KEY = re.compile(r"\b(white_level|black_level|swap_views|angle_offset_deg|calibration|layout): ")


@dataclass(frozen=True)
class DoctorOptions:
    """Say in words, and with a picture, why a pair's result may look wrong.

    Ordinary rectified images, and what belongs to them:
        crosspol doctor left.png right.png
        crosspol doctor left.png right.png --calibration calib.txt --output check
        crosspol doctor left.png right.png --polarization-left dolp_l.png --polarization-right dolp_r.png

    What the cameras of a rig wrote:
        crosspol doctor left.raw right.raw --rig rig.yaml

    Looks at the range of the numbers, exposure, colors, whether the views are swapped, mirrored, equal or unrelated,
    whether their rows correspond, the calibration's size and units, the depths that the disparities mean, and the
    polarization. Each line begins with ok, WRONG, or ? for what the pair does not tell, and says what it means for
    the result and what to do. Exit status 0: nothing is wrong; 1: something is; 2: the request was wrong.
    """

    left: Annotated[Positional[str], arg(metavar="LEFT", help_behavior_hint="")]
    """Left view: an image; with --rig what the camera wrote, or a path with {angle} or {map} in it."""
    right: Annotated[Positional[str], arg(metavar="RIGHT", help_behavior_hint="")]
    """Right view, likewise."""
    rig: Annotated[Path | None, arg(metavar="RIG", help_behavior_hint="(optional)")] = None
    """Description of the rig (crosspol rig init)."""
    calibration: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Calibration of both cameras in any format that CrossPol reads; instead of the rig's."""
    polarization_left: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view: DoLP as image or .npy, or S1/S0, S2/S0, DoLP as (H, W, 3) in .npy."""
    polarization_right: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(optional)")] = None
    """Weights as for crosspol predict: predict the pair as well, and compare with the features that match."""
    output: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: the working folder)")] = None
    """Folder for doctor.png, or doctor_2.png and so on beside earlier ones; made if needed."""


def doctor(options: DoctorOptions) -> None:
    """Look, print what was found, and draw it.

    Raises:
        UsageError: something that was asked for cannot be done.
        SystemExit: 1, where something is wrong.
    """
    output = Path() if options.output is None else options.output
    check_output_folder(output)
    predictor = None if options.weights is None else StereoPredictor.from_pretrained(options.weights)
    report = _of_images(options) if options.rig is None else _of_rig(options)
    if predictor is not None:
        _predict(predictor, report, options)
    print(as_text(report, explain=True))
    if options.rig is None and any(_A_KEY.search(finding.do) for finding in (*report.wrong, *report.unsure)):
        print("keys such as white_level: are of a rig.yaml (crosspol rig init rig.yaml --kind none), given with --rig")
    make_output_folder(output)
    print(write_pair_sheet(unused_name(output / _PICTURE), report))
    print(report.conclusion)
    if report.wrong:
        raise SystemExit(1)


def _of_rig(options: DoctorOptions) -> Report:
    for side in ("left", "right"):
        path = getattr(options, f"polarization_{side}")
        if path is not None:
            wanted = "one or the other: a rig has its own"
            raise refuse(f"--polarization-{side}", f"{path} beside --rig", wanted)
    assert options.rig is not None  # it was asked for
    rig: Rig = read_rig(options.rig)
    if options.calibration is not None:
        rig = replace(rig, calibration=str(options.calibration.resolve()))
    return check_rig(rig, [options.left, options.right], tuple(CHECKS))


def _of_images(options: DoctorOptions) -> Report:
    images = tuple(read_image(path) for path in (options.left, options.right))
    maps = tuple(
        None if path is None else _polarization(read_image(path), str(path))
        for path in (options.polarization_left, options.polarization_right)
    )
    return check_images((images[0], images[1]), (options.left, options.right), options.calibration, (maps[0], maps[1]))


def _polarization(stored: NDArray[Any], name: str) -> Polarization:
    """Take a map for what its shape says: three channels of floating point are S1/S0, S2/S0 and DoLP."""
    channels = 3 if stored.ndim == 3 and stored.shape[-1] == 3 and stored.dtype.kind == "f" else 1
    if channels == 3 and (stored == stored[..., :1]).all():
        channels = 1
    values = np.moveaxis(as_polarization(stored, name, channels), -1, 0)
    valid = np.asarray(np.isfinite(values).all(axis=0))
    if not valid.any():
        raise UsageError(f"{name}: got only NaN, wanted DoLP or contrast somewhere")
    values = np.where(valid, values, np.float32(0))
    return Polarization(np.abs(values[-1]), values[:2] if channels == 3 else None, valid)


def _predict(predictor: StereoPredictor, report: Report, options: DoctorOptions) -> None:
    """Predict the pair and add what the result says against the matched features."""
    known = report.evidence
    if known is None or not known.in_order or any(finding.topic == "values" for finding in report.wrong):
        text = "what this network finds shows once what is wrong above is right"
        report.add({"pair": [Finding("prediction", "unsure", text)]})
        return
    try:
        if options.rig is None:
            # As they were stored: the tone curve is undone in the frames, and done again.
            views = [np.moveaxis(encode_srgb(frame.image.numpy()), 0, -1) for frame in (known.left, known.right)]
            maps = options.polarization_left, options.polarization_right
            result = predictor.predict(*views, polarization_left=maps[0], polarization_right=maps[1])
        else:
            result = predictor.predict_frames(known.left, known.right, known.kind, known.of_views)
    except UsageError as error:
        do = "take weights that use it (crosspol info), or leave it out"
        report.add({"pair": [Finding("prediction", "wrong", words_of(error), do, "prediction is refused")]})
        return
    report.add({"pair": check_prediction(result.disparity, known.matches)})
