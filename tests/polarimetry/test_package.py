"""The room as a whole: its public names, and that no function leaves the device of its input."""

import inspect

import torch

from crosspol import polarimetry as pol
from crosspol.polarimetry import focal_plane, fresnel, layout_check, linear_stokes, masks


def test_every_public_name_of_the_files_is_exported_and_documented() -> None:
    files = [focal_plane, fresnel, layout_check, linear_stokes, masks]
    assert sorted(pol.__all__) == sorted(name for file in files for name in file.__all__)
    for file in files:
        for name in file.__all__:
            value = getattr(file, name)
            assert getattr(pol, name) is value
            if inspect.isfunction(value):
                assert inspect.getdoc(value), name


def test_every_function_stays_on_its_device() -> None:
    """The meta device refuses to meet tensors of another device, and any branch on a value."""
    images = [torch.rand(2, 1, 8, 8, device="meta") for _ in range(4)]
    raw, s = images[0], pol.stokes(*images)
    color = [image.expand(2, 3, 8, 8) for image in images]
    results = [
        s,
        pol.stokes_from_angles(images, [0.0, 1.0, 2.0, 3.0]),
        pol.intensity_at(s, 0.3),
        pol.dolp(s),
        pol.dolp_debiased(s, 0.1),
        pol.aolp(s),
        pol.normalized_stokes(s),
        pol.contrast(*images[:2]),
        pol.residual(*images),
        pol.flip_horizontal(s),
        pol.flip_vertical(s),
        pol.rotate_quarter_turns(s, 1),
        pol.rotate_frame(s, 0.2),
        pol.validity(*images),
        pol.mosaic_validity(raw),
        pol.mosaic_validity(raw, "RGGB"),
        pol.mosaic(*images),
        pol.mosaic(*color, bayer="RGGB"),
        *pol.demosaic(raw),
        *pol.demosaic(raw, bayer="RGGB"),
        *pol.demosaic(raw, method="bilinear"),
        pol.layout_residual(raw),
        *pol.fresnel_reflection(raw),
        *pol.fresnel_pane(raw),
        *pol.fresnel_dolp(raw),
        *pol.fresnel_pane_dolp(raw),
        *pol.mueller_interface(raw),
        *pol.mueller_pane(raw),
        pol.mueller_rotation(raw),
    ]
    assert {result.device.type for result in results} == {"meta"}
