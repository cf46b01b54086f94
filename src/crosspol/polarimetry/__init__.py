"""Physics of polarized light: Stokes parameters, sensors' mosaics, Fresnel. Differentiable, on any device.

Shapes: an image or a map is (..., H, W), and the functions keep that shape whatever the leading dimensions are:
(H, W), mono (B, 1, H, W) and color (B, 3, H, W) alike. Stokes parameters add one dimension of three before height and
width: (..., 3, H, W) holds S0, S1, S2. So `stokes` makes (B, 1, 3, H, W) of mono images (B, 1, H, W), and `dolp` of
that is (B, 1, H, W) again, as the network takes it. Each color has a polarization of its own; to join them, average
the Stokes parameters over the colors, never DoLP or AoLP.

Units: intensities are linear (before any gamma), 0 black and 1 white where a function needs to know.

Frame: S1 > 0 is polarization along image-right, S2 > 0 at +45 degrees, toward the upper right. AoLP is in radians,
counter-clockwise from image-right as seen in the image; polarizer angles in degrees are of the same frame.
"""

from crosspol.polarimetry.focal_plane import (
    SONY_LAYOUT,
    DemosaicMethod,
    Layout,
    bin_mosaic,
    binned_side,
    demosaic,
    demosaic_reach,
    mosaic,
)
from crosspol.polarimetry.fresnel import (
    fresnel_dolp,
    fresnel_pane,
    fresnel_pane_dolp,
    fresnel_reflection,
    mueller_interface,
    mueller_pane,
    mueller_rotation,
)
from crosspol.polarimetry.layout_check import layout_residual, rival_layouts
from crosspol.polarimetry.linear_stokes import (
    aolp,
    contrast,
    dolp,
    dolp_debiased,
    flip_horizontal,
    flip_vertical,
    intensity_at,
    normalized_stokes,
    residual,
    rotate_frame,
    rotate_quarter_turns,
    stokes,
    stokes_from_angles,
)
from crosspol.polarimetry.masks import binned_validity, mosaic_validity, validity

__all__ = [
    "SONY_LAYOUT",
    "DemosaicMethod",
    "Layout",
    "aolp",
    "bin_mosaic",
    "binned_side",
    "binned_validity",
    "contrast",
    "demosaic",
    "demosaic_reach",
    "dolp",
    "dolp_debiased",
    "flip_horizontal",
    "flip_vertical",
    "fresnel_dolp",
    "fresnel_pane",
    "fresnel_pane_dolp",
    "fresnel_reflection",
    "intensity_at",
    "layout_residual",
    "mosaic",
    "mosaic_validity",
    "mueller_interface",
    "mueller_pane",
    "mueller_rotation",
    "normalized_stokes",
    "residual",
    "rival_layouts",
    "rotate_frame",
    "rotate_quarter_turns",
    "stokes",
    "stokes_from_angles",
    "validity",
]
