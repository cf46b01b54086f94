from __future__ import annotations

import numpy as np
import pytest

from crosspol.synthesis.panes import pane_optics, plane_normal, reflected, transmitted

FOCAL = 300.0


def light(*stokes: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s0, s1, s2 = (np.full((1, 1), value, np.float32) for value in stokes)
    return s0, s1, s2


def tilted(degrees: float, azimuth: float) -> tuple[float, float, float]:
    tilt, turn = np.radians(degrees), np.radians(azimuth)
    return float(np.sin(tilt) * np.cos(turn)), float(np.sin(tilt) * np.sin(turn)), float(np.cos(tilt))


@pytest.mark.parametrize("azimuth", [0.0, 37.0, 90.0, 200.0])
@pytest.mark.parametrize(
    ("degrees", "by_reflection", "by_transmission"),
    [(30, 0.379, 0.033), (45, 0.819, 0.084), (56.3099, 1.0, 0.148), (70, 0.700, 0.260)],
)
def test_degree_and_direction_of_polarization_of_a_pane(
    degrees: float, by_reflection: float, by_transmission: float, azimuth: float
) -> None:
    center = np.zeros((1, 1), np.float32)
    optics = pane_optics(tilted(degrees, azimuth), center, center, FOCAL)
    # At the center of the image s is perpendicular to the tilt; the image's angles run against the camera's (y up).
    s_angle = np.radians(-azimuth + 90)
    for through, degree, sign in ((reflected, by_reflection, 1), (transmitted, by_transmission, -1)):
        s0, s1, s2 = (float(part[0, 0]) for part in through(optics, light(1, 0, 0)))
        assert s1 / s0 == pytest.approx(sign * degree * np.cos(2 * s_angle), abs=1.5e-3)
        assert s2 / s0 == pytest.approx(sign * degree * np.sin(2 * s_angle), abs=1.5e-3)


def test_pane_loses_no_light_and_equal_worlds_cancel() -> None:
    y, x = np.mgrid[-40:40:9, -60:60:7].astype(np.float32)
    optics = pane_optics(tilted(50, 30), x, y, FOCAL)
    world = tuple(np.full(x.shape, value, np.float32) for value in (0.7, 0.0, 0.0))
    total = [a + b for a, b in zip(transmitted(optics, world), reflected(optics, world), strict=True)]
    np.testing.assert_allclose(total[0], 0.7, rtol=1e-5)
    np.testing.assert_allclose(total[1], 0, atol=1e-6)
    np.testing.assert_allclose(total[2], 0, atol=1e-6)


def test_s_direction_is_normal_times_ray_everywhere() -> None:
    normal = np.array(tilted(40, 130))
    y, x = np.mgrid[-100:101:50, -150:151:50].astype(np.float32)
    optics = pane_optics(tuple(normal.tolist()), x, y, FOCAL)
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            ray = np.array([x[row, column] / FOCAL, y[row, column] / FOCAL, 1.0])
            s = np.cross(normal, ray)
            angle = np.arctan2(-s[1], s[0])
            assert optics.cos_2s[row, column] == pytest.approx(np.cos(2 * angle), abs=1e-4)
            assert optics.sin_2s[row, column] == pytest.approx(np.sin(2 * angle), abs=1e-4)


def test_fully_polarized_light_stays_fully_polarized() -> None:
    center = np.full((1, 1), 25, np.float32)
    optics = pane_optics(tilted(60, 15), center, -center, FOCAL)
    for through in (reflected, transmitted):
        s0, s1, s2 = (float(part[0, 0]) for part in through(optics, light(1, np.cos(1.1), np.sin(1.1))))
        assert np.hypot(s1, s2) == pytest.approx(s0, rel=1e-4)


def test_plane_normal_from_disparity() -> None:
    normal, offset, baseline = np.array([0.4, -0.3, 0.8]), 2.5, 0.12
    normal = normal / np.linalg.norm(normal)
    y, x = np.mgrid[-50:51:10, -70:71:10].astype(float)
    depth = offset / (normal[0] * x / FOCAL + normal[1] * y / FOCAL + normal[2])
    disparity = FOCAL * baseline / depth
    terms = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    slope_x, slope_y, center = np.linalg.lstsq(terms, disparity.ravel(), rcond=None)[0]
    np.testing.assert_allclose(plane_normal(slope_x, slope_y, center, FOCAL), normal, atol=1e-9)
