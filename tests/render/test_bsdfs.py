import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crosspol.polarimetry import fresnel_dolp, fresnel_pane, fresnel_pane_dolp
from crosspol.render.bsdfs import pane, plastic, solid

ANGLES = (30.0, 45.0, 56.31, 70.0)


def stokes(
    mitsuba: Any, surface: dict[str, Any], angle: float, lamp: str, roll: float = 0.0, thickness: float = 0.0
) -> NDArray[np.float64]:
    """Render a surface at the origin seen at `angle`, lit by a large unpolarized lamp behind or as its mirror image.

    Returns (S0, S1, S2) of the image's middle. `roll` turns the camera about its axis, counter-clockwise, degrees;
    a `thickness` makes a slab of the surface.
    """
    transform = mitsuba.ScalarTransform4f()
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    eye = np.array([sine, 0, cosine])
    light = np.array([-sine, 0, cosine]) if lamp == "mirrored" else -eye
    right = np.array([cosine, 0, -sine])
    up = math.cos(math.radians(roll)) * np.array([0, 1, 0]) - math.sin(math.radians(roll)) * right
    shape: dict[str, Any] = {"type": "rectangle"}
    if thickness:
        shape = {"type": "cube", "to_world": transform.scale([3, 3, thickness / 2])}
    paths = {"type": "volpath", "max_depth": 12 if thickness else 4, "rr_depth": 12}
    gray = {"type": "uniform", "value": 1.0}
    scene = mitsuba.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "stokes", "inner": paths},
            "surface": shape | {"bsdf": surface},
            "lamp": {
                "type": "rectangle",
                "to_world": transform.look_at(origin=(5 * light).tolist(), target=[0, 0, 0], up=[0, 1, 0]),
                "bsdf": {"type": "diffuse", "reflectance": {"type": "uniform", "value": 0.0}},
                "emitter": {"type": "area", "radiance": gray},
            },
            "sensor": {
                "type": "perspective",
                "fov": 1,
                "to_world": transform.look_at(origin=(5 * eye).tolist(), target=[0, 0, 0], up=up.tolist()),
                "film": {"type": "hdrfilm", "width": 2, "height": 2, "rfilter": {"type": "box"}},
            },
        },
        parallel=False,
        optimize=False,
    )
    # The last twelve channels are S0 to S3, each as red, green and blue.
    pixels = np.array(mitsuba.render(scene, seed=1, spp=4096 if thickness else 1024))[..., -12:].reshape(-1, 4, 3)
    return pixels.mean(axis=0)[:3, 1].astype(np.float64)


def dolp(values: NDArray[np.float64]) -> float:
    return float(np.hypot(values[1], values[2]) / values[0])


@pytest.mark.parametrize("angle", ANGLES)
def test_rendered_pane_and_solid_follow_fresnel(mitsuba: Any, angle: float) -> None:
    cosine = torch.tensor(math.cos(math.radians(angle)), dtype=torch.float64)
    reflected, transmitted = (float(value) for value in fresnel_pane_dolp(cosine))
    mirrored = stokes(mitsuba, pane(), angle, "mirrored")
    behind = stokes(mitsuba, pane(), angle, "behind")
    assert dolp(mirrored) == pytest.approx(reflected, abs=1e-2)
    assert dolp(behind) == pytest.approx(transmitted, abs=1e-2)
    assert dolp(stokes(mitsuba, solid(), angle, "mirrored")) == pytest.approx(float(fresnel_dolp(cosine)[0]), abs=1e-2)
    # The plane of incidence is horizontal: reflected light is polarized upright, transmitted light level.
    assert mirrored[1] < 0 < behind[1]
    r_s, r_p, *_ = fresnel_pane(cosine)
    # Which lobe is followed is chosen at random: 4096 throws of a coin.
    assert mirrored[0] / (mirrored[0] + behind[0]) == pytest.approx(float(r_s + r_p) / 2, abs=0.02)


@pytest.mark.parametrize("angle", ANGLES)
def test_rendered_slab_transmits_as_two_fresnel_interfaces(mitsuba: Any, angle: float) -> None:
    cosine = torch.tensor(math.cos(math.radians(angle)), dtype=torch.float64)
    values = stokes(mitsuba, solid(), angle, "behind", thickness=0.02)
    assert dolp(values) == pytest.approx(float(fresnel_pane_dolp(cosine)[1]), abs=1e-2)
    assert values[1] > 0
    # Entering and leaving, the factors of the solid angle in glass cancel: a slab is as clear as a pane.
    assert values[0] == pytest.approx(stokes(mitsuba, pane(), angle, "behind")[0], rel=0.04)


def test_polarization_turns_with_the_camera(mitsuba: Any) -> None:
    # Rolled counter-clockwise by 30 degrees, the camera sees upright light (90 degrees) at 60.
    values = stokes(mitsuba, pane(), 56.31, "mirrored", roll=30.0)
    assert math.degrees(math.atan2(values[2], values[1])) / 2 == pytest.approx(60, abs=1)


def test_plastic_polarizes_its_mirror_image_less_than_glass(mitsuba: Any) -> None:
    value = dolp(stokes(mitsuba, plastic(0.3, roughness=0.1), 56.31, "mirrored"))
    assert 0.02 < value < 0.95
