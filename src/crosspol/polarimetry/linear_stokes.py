"""Linear Stokes parameters and what follows from them. The conventions are those at the top of the package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crosspol.polarimetry.exact import without_autocast

__all__ = [
    "aolp",
    "contrast",
    "dolp",
    "dolp_debiased",
    "flip_horizontal",
    "flip_vertical",
    "intensity_at",
    "normalized_stokes",
    "residual",
    "rotate_frame",
    "rotate_quarter_turns",
    "stokes",
    "stokes_from_angles",
]


def stokes(i0: Tensor, i45: Tensor, i90: Tensor, i135: Tensor) -> Tensor:
    """Linear Stokes parameters from the intensities behind polarizers at 0, 45, 90 and 135 degrees.

    Args:
        i0, i45, i90, i135: (..., H, W), linear intensities in any unit, all of one shape.

    Returns:
        (..., 3, H, W): S0 = (i0 + i45 + i90 + i135) / 2, S1 = i0 - i90, S2 = i45 - i135, in the images' unit.

    Raises:
        ValueError: the shapes differ, or an image is not floating point or has fewer than two dimensions.
    """
    _check_images(i0=i0, i45=i45, i90=i90, i135=i135)
    return torch.stack([(i0 + i45 + i90 + i135) / 2, i0 - i90, i45 - i135], dim=-3)


def stokes_from_angles(intensities: Sequence[Tensor] | Tensor, angles_rad: Sequence[float]) -> Tensor:
    """Linear Stokes parameters from intensities behind a polarizer at three or more angles, by least squares.

    Args:
        intensities: N images (..., H, W), or one tensor (N, ..., H, W), linear.
        angles_rad: N angles of the transmission axis, radians counter-clockwise from image-right.

    Returns:
        (..., 3, H, W), the S that minimises sum_k (intensity_at(S, angles_rad[k]) - intensities[k])^2. For 0, 45, 90
        and 135 degrees this is `stokes`.

    Raises:
        ValueError: not one angle an image, fewer than three angles that differ modulo 180 degrees, or images that do
            not fit together.
    """
    images = list(intensities)
    angles = torch.as_tensor(angles_rad, dtype=torch.float64, device="cpu").detach().flatten()
    if len(images) != len(angles):
        raise ValueError(f"{len(images)} images and {len(angles)} angles; wanted one angle for each image")
    design = torch.stack([torch.ones_like(angles), torch.cos(2 * angles), torch.sin(2 * angles)], dim=1) / 2
    # 1e-6 rejects angles that coincide up to rounding, which would turn noise into polarization a million times over.
    if torch.linalg.matrix_rank(design, rtol=1e-6) < 3:
        degrees = [round(angle, 3) for angle in torch.rad2deg(angles).tolist()]
        raise ValueError(f"angles {degrees} degrees; wanted at least three that differ modulo 180 degrees")
    _check_images(**{f"intensities[{index}]": image for index, image in enumerate(images)})
    solve = torch.linalg.pinv(design).to(images[0])
    with without_autocast(images[0].device.type):
        return torch.einsum("sn,n...hw->...shw", solve, torch.stack(images))


def intensity_at(stokes: Tensor, angle_rad: float | Tensor) -> Tensor:
    """Intensity behind an ideal linear polarizer: (S0 + S1 cos 2a + S2 sin 2a) / 2.

    Args:
        stokes: (..., 3, H, W).
        angle_rad: transmission axis, radians counter-clockwise from image-right; a number, or a tensor that broadcasts
            with (..., H, W).

    Returns:
        (..., H, W), in the unit of `stokes`.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    angle = torch.as_tensor(angle_rad, dtype=stokes.dtype, device=stokes.device)
    return (s0 + s1 * torch.cos(2 * angle) + s2 * torch.sin(2 * angle)) / 2


def dolp(stokes: Tensor) -> Tensor:
    """Degree of linear polarization, sqrt(S1^2 + S2^2) / S0, as measured.

    Args:
        stokes: (..., 3, H, W).

    Returns:
        (..., H, W), at least 0; at most 1 for light that can exist, but noise and saturation can lift a measurement
        above 1, and it is not clamped. 0 where S0 is not positive. The gradient is 0 there and at S1 = S2 = 0.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    return _over_s0(_length(s1, s2), s0)


def dolp_debiased(stokes: Tensor, sigma: float | Tensor) -> Tensor:
    """Degree of linear polarization without most of the upward bias of noise, by the modified asymptotic estimator.

    p_MAS = p - b^2 (1 - exp(-p^2 / b^2)) / (2 p) with p = `dolp(stokes)` and b = sigma / S0. Never negative, close to p
    where p is far above b, and p / 2 in the limit of no signal.

    Args:
        stokes: (..., 3, H, W).
        sigma: standard deviation of the noise of S1 and of S2 (equal, independent), in the unit of `stokes`; a number
            or a tensor that broadcasts with (..., H, W). With noise s on each of four separate images it is
            sqrt(2) s.

    Returns:
        (..., H, W), 0 where S0 is not positive. The gradient is finite everywhere.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point, or `sigma` is a negative number.

    Source: Plaszczynski, Montier, Levrier and Tristram, MNRAS 439, 4048 (2014), the MAS estimator, for equal noise on Q
    and U.
    """
    s0, s1, s2 = _components(stokes)
    if not isinstance(sigma, Tensor) and not sigma >= 0:
        raise ValueError(f"sigma is {sigma}; wanted a standard deviation, 0 or larger")
    noise = torch.as_tensor(sigma, dtype=stokes.dtype, device=stokes.device)
    noisy = noise > 0
    scale = torch.where(noisy, noise, torch.ones_like(noise))
    snr_squared = (s1 / scale) ** 2 + (s2 / scale) ** 2
    kept = 1 - torch.where(noisy, _mean_decay(snr_squared), torch.zeros_like(snr_squared)) / 2
    return _over_s0(_length(s1, s2) * kept, s0)


def aolp(stokes: Tensor) -> Tensor:
    """Angle of linear polarization, atan2(S2, S1) / 2.

    It has no meaning where DoLP is 0 and jumps by 180 degrees: feed a network `normalized_stokes`, never this.

    Args:
        stokes: (..., 3, H, W).

    Returns:
        (..., H, W), radians in [-pi/2, pi/2], counter-clockwise from image-right; 0, with gradient 0, at S1 = S2 = 0.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    _, s1, s2 = _components(stokes)
    # Below this the squares in the derivative of atan2 underflow.
    polarized = s1**2 + s2**2 > torch.finfo(stokes.dtype).tiny
    return torch.atan2(
        torch.where(polarized, s2, torch.zeros_like(s2)), torch.where(polarized, s1, torch.ones_like(s1))
    ).div(2)


def normalized_stokes(stokes: Tensor) -> Tensor:
    """The three-channel polarization map (S1 / S0, S2 / S0, DoLP).

    Args:
        stokes: (..., 3, H, W).

    Returns:
        (..., 3, H, W), the first two in [-1, 1] and the third in [0, 1] for light that can exist (not clamped, as
        `dolp`); all 0 where S0 is not positive.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    return torch.stack([_over_s0(s1, s0), _over_s0(s2, s0), _over_s0(_length(s1, s2), s0)], dim=-3)


def contrast(i_parallel: Tensor, i_perpendicular: Tensor) -> Tensor:
    """Signed contrast of a crossed pair, (I_par - I_perp) / (I_par + I_perp): its S1 / S0, with S1 > 0 along I_par.

    Args:
        i_parallel, i_perpendicular: (..., H, W), linear intensities of one and the same view, of one shape.

    Returns:
        (..., H, W), in [-1, 1] for intensities that are not negative; 0, with gradient 0, where there is no light.

    Raises:
        ValueError: the shapes differ, or an image is not floating point or has fewer than two dimensions.
    """
    _check_images(i_parallel=i_parallel, i_perpendicular=i_perpendicular)
    return _over_s0(i_parallel - i_perpendicular, i_parallel + i_perpendicular)


def residual(i0: Tensor, i45: Tensor, i90: Tensor, i135: Tensor) -> Tensor:
    """The self-check of a four-angle sensor, ((I0 + I90) - (I45 + I135)) / S0: 0 for ideal polarizers, linear pixels.

    Noise, saturation, gain differences, a gamma curve and some wrong mosaic layouts show in it (see `layout_residual`).

    Args:
        i0, i45, i90, i135: (..., H, W), linear intensities of one shape.

    Returns:
        (..., H, W), signed, in [-2, 2] for intensities that are not negative; 0 where S0 is not positive.

    Raises:
        ValueError: the shapes differ, or an image is not floating point or has fewer than two dimensions.
    """
    _check_images(i0=i0, i45=i45, i90=i90, i135=i135)
    return _over_s0((i0 + i90) - (i45 + i135), (i0 + i45 + i90 + i135) / 2)


def flip_horizontal(stokes: Tensor) -> Tensor:
    """Mirror a Stokes image left to right. A mirror turns +45 degrees into -45 degrees: S2 changes its sign.

    Args:
        stokes: (..., 3, H, W).

    Returns:
        (..., 3, H, W).

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    return torch.stack([s0, s1, -s2], dim=-3).flip(-1)


def flip_vertical(stokes: Tensor) -> Tensor:
    """Mirror a Stokes image top to bottom; S2 changes its sign, as in `flip_horizontal`.

    Args:
        stokes: (..., 3, H, W).

    Returns:
        (..., 3, H, W).

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    return torch.stack([s0, s1, -s2], dim=-3).flip(-2)


def rotate_quarter_turns(stokes: Tensor, turns: int) -> Tensor:
    """Turn a Stokes image counter-clockwise by `turns` times 90 degrees; an odd number negates S1 and S2.

    Args:
        stokes: (..., 3, H, W).
        turns: any integer; negative turns clockwise.

    Returns:
        (..., 3, H, W) or, for an odd number of turns, (..., 3, W, H).

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    sign = -1 if turns % 2 else 1
    return torch.rot90(torch.stack([s0, sign * s1, sign * s2], dim=-3), turns, dims=(-2, -1))


def rotate_frame(stokes: Tensor, angle_rad: float | Tensor) -> Tensor:
    """Express Stokes parameters in axes turned counter-clockwise by an angle; the pixels stay in place.

    A polarization at AoLP a is at a - angle_rad afterwards. When an image's content is resampled so that it turns
    counter-clockwise by t, its polarization turns along: `rotate_frame(resampled, -t)`. The same as `mueller_rotation`.

    Args:
        stokes: (..., 3, H, W).
        angle_rad: radians; a number, or a tensor that broadcasts with (..., H, W).

    Returns:
        (..., 3, H, W): S1' = cos(2a) S1 + sin(2a) S2, S2' = -sin(2a) S1 + cos(2a) S2.

    Raises:
        ValueError: `stokes` is not (..., 3, H, W) floating point.
    """
    s0, s1, s2 = _components(stokes)
    angle = torch.as_tensor(angle_rad, dtype=stokes.dtype, device=stokes.device)
    cos, sin = torch.cos(2 * angle), torch.sin(2 * angle)
    turned1, turned2 = cos * s1 + sin * s2, cos * s2 - sin * s1
    return torch.stack([s0.expand_as(turned1), turned1, turned2], dim=-3)


def _over_s0(part: Tensor, s0: Tensor) -> Tensor:
    """part / s0, and 0 with gradient 0 where there is no light.

    No light is S0 up to sqrt(tiny), 1e-19 in float32: below it the derivative, part / S0^2, would overflow.
    """
    lit = s0 > torch.finfo(s0.dtype).tiny ** 0.5
    return torch.where(lit, part, torch.zeros_like(part)) / torch.where(lit, s0, torch.ones_like(s0))


def _length(s1: Tensor, s2: Tensor) -> Tensor:
    """sqrt(s1^2 + s2^2) with gradient 0, rather than NaN, at the origin."""
    polarized = (s1 != 0) | (s2 != 0)
    length = torch.hypot(torch.where(polarized, s1, torch.ones_like(s1)), s2)
    return torch.where(polarized, length, torch.zeros_like(length))


def _mean_decay(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x for x >= 0, by its series near 0, where the quotient and its derivative lose their digits."""
    small = x < 1e-3
    large = torch.where(small, torch.ones_like(x), x)
    tiny = torch.where(small, x, torch.zeros_like(x))
    return torch.where(small, 1 - tiny / 2 + tiny**2 / 6 - tiny**3 / 24, -torch.expm1(-large) / large)


def _components(stokes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not isinstance(stokes, Tensor) or stokes.ndim < 3 or stokes.shape[-3] != 3 or not stokes.is_floating_point():
        raise ValueError(f"stokes is {_describe(stokes)}; wanted a floating-point tensor (..., 3, H, W) of S0, S1, S2")
    s0, s1, s2 = stokes.unbind(-3)
    return s0, s1, s2


def _check_images(**images: Tensor) -> None:
    first_name, first = next(iter(images.items()))
    for name, image in images.items():
        if not isinstance(image, Tensor) or image.ndim < 2 or not image.is_floating_point():
            raise ValueError(f"{name} is {_describe(image)}; wanted a floating-point tensor (..., H, W)")
        if image.shape != first.shape:
            raise ValueError(
                f"{name} is {tuple(image.shape)} and {first_name} is {tuple(first.shape)}; wanted one shape"
            )


def _describe(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
