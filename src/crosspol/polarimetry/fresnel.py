"""Polarized light at a dielectric surface and at a thin pane: Fresnel reflectances and Mueller matrices.

`eta` is the refractive index of the far side over that of the near side: 1.5 for light in air that meets glass, 1 / 1.5
for light in glass that meets air. `cos_incidence` is the cosine of the angle between the surface normal and the ray on
the near side, in [0, 1]; rounding outside that range is clamped. Every function takes tensors of any shape on any
device and is differentiable; gradients are finite at normal and grazing incidence and beyond the critical angle.

Frame of the Mueller matrices: the first axis is s (perpendicular to the plane of incidence), the second is p, and
(s, p, ray) is right-handed before and after. So **S1 > 0 is s-polarized**, S2 > 0 lies at +45 degrees from s toward p,
and a reflection at normal incidence keeps s and turns p over: diag(R, R, -R, -R).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "fresnel_dolp",
    "fresnel_pane",
    "fresnel_pane_dolp",
    "fresnel_reflection",
    "mueller_interface",
    "mueller_pane",
    "mueller_rotation",
]


def fresnel_reflection(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor]:
    """Share of the intensity that one dielectric surface reflects, for s- and p-polarized light.

    Args:
        cos_incidence: (...), cosine of the angle of incidence, in [0, 1].
        eta: far over near refractive index, > 0; a number or a tensor that broadcasts with `cos_incidence`.

    Returns:
        (R_s, R_p), each (...), in [0, 1]. Both are 1 at grazing incidence and under total internal reflection.
        The transmitted share is 1 - R: the surface is lossless.

    Raises:
        ValueError: `cos_incidence` is not a floating-point tensor, or `eta` is a number that is not positive.

    Source: Born and Wolf, Principles of Optics, 1.5.2, equations 21 and 27.
    """
    cos_i, eta = _checked(cos_incidence, eta)
    squared, eta_cos_t = _refract(cos_i, eta)
    one = torch.ones_like(squared)
    r_s = (cos_i - eta_cos_t) / (cos_i + eta_cos_t)
    r_p = (eta**2 * cos_i - eta_cos_t) / (eta**2 * cos_i + eta_cos_t)
    return torch.where(squared > 0, r_s**2, one), torch.where(squared > 0, r_p**2, one)


def fresnel_pane(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reflected and transmitted share of a thin, lossless, plane-parallel pane with all its internal reflections.

    The inner reflections add as intensities (a pane is far thicker than the coherence length of daylight and lamps):
    R_pane = 2 R / (1 + R) and T_pane = (1 - R) / (1 + R), with R of one surface.

    Args:
        cos_incidence: (...), cosine of the angle of incidence outside the pane, in [0, 1].
        eta: refractive index of the pane over that of its surroundings, > 0.

    Returns:
        (R_s, R_p, T_s, T_p), each (...), in [0, 1], with R + T = 1.

    Raises:
        ValueError: as `fresnel_reflection`.

    Source: Stokes 1862; Born and Wolf, 1.5 and 7.6, summed without interference.
    """
    r_s, r_p = fresnel_reflection(cos_incidence, eta)
    return 2 * r_s / (1 + r_s), 2 * r_p / (1 + r_p), (1 - r_s) / (1 + r_s), (1 - r_p) / (1 + r_p)


def fresnel_dolp(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor]:
    """Degree of linear polarization that one surface gives to unpolarized light.

    Args:
        cos_incidence: (...), cosine of the angle of incidence, in [0, 1].
        eta: far over near refractive index, > 0.

    Returns:
        (reflected, transmitted), each (...), in [0, 1]. Reflected light is polarized along s, transmitted along p.
        Where no light goes (nothing reflected at eta = 1, nothing transmitted beyond the critical angle) it is 0.

    Raises:
        ValueError: as `fresnel_reflection`.
    """
    r_s, r_p = fresnel_reflection(cos_incidence, eta)
    return _share(r_s - r_p, r_s + r_p), _share(r_s - r_p, 2 - r_s - r_p)


def fresnel_pane_dolp(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor]:
    """Degree of linear polarization that a thin pane gives to unpolarized light.

    Arguments, returns and errors as `fresnel_dolp`, for the pane of `fresnel_pane`.
    """
    r_s, r_p, t_s, t_p = fresnel_pane(cos_incidence, eta)
    return _share(r_s - r_p, r_s + r_p), _share(t_p - t_s, t_p + t_s)


def mueller_interface(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor]:
    """Mueller matrices of the reflection at, and of the transmission through, one dielectric surface.

    Args:
        cos_incidence: (...), cosine of the angle of incidence, in [0, 1].
        eta: far over near refractive index, > 0.

    Returns:
        (reflection, transmission), each (..., 4, 4), in the s/p frame at the top of this module (S1 > 0 is s). They
        map power through a fixed piece of surface, so that their first rows add up to (1, 0, 0, 0). Total internal
        reflection carries its retardance; the sign of S3 follows fields that go as exp(+i omega t).

    Raises:
        ValueError: as `fresnel_reflection`.

    Source: Collett, Field Guide to Polarization, reflection and transmission matrices.
    """
    cos_i, eta = _checked(cos_incidence, eta)
    r_s, r_p = fresnel_reflection(cos_i, eta)
    correlation, retardation, passed = _cross_terms(cos_i, eta)
    reflection = _mueller(r_s, r_p, correlation, retardation)
    return reflection, _mueller(1 - r_s, 1 - r_p, passed, torch.zeros_like(passed))


def mueller_pane(cos_incidence: Tensor, eta: float | Tensor = 1.5) -> tuple[Tensor, Tensor]:
    """Mueller matrices of the reflection at, and of the transmission through, a thin lossless pane.

    The geometric series of `mueller_interface`'s matrices over all internal reflections, added as intensities; with
    unpolarized light it gives `fresnel_pane`.

    Args:
        cos_incidence: (...), cosine of the angle of incidence outside the pane, in [0, 1].
        eta: refractive index of the pane over that of its surroundings, > 0.

    Returns:
        (reflection, transmission), each (..., 4, 4), in the s/p frame at the top of this module (S1 > 0 is s).

    Raises:
        ValueError: as `fresnel_reflection`.
    """
    cos_i, eta = _checked(cos_incidence, eta)
    surface_s, surface_p = fresnel_reflection(cos_i, eta)
    r_s, r_p, t_s, t_p = fresnel_pane(cos_i, eta)
    correlation, retardation, passed = _cross_terms(cos_i, eta)
    # An inner reflection has r' = -r for s and for p alike, so the cross term c = r_s r_p is that of the outside; the
    # series over the passes is t^2 / (1 - c^2) through the pane, and c times that more on the reflected side.
    transmitted = _share(passed**2, 1 - surface_s * surface_p)
    reflection = _mueller(r_s, r_p, correlation * (1 + transmitted), retardation)
    return reflection, _mueller(t_s, t_p, transmitted, torch.zeros_like(transmitted))


def mueller_rotation(angle_rad: Tensor) -> Tensor:
    """Mueller matrix that expresses a Stokes vector in axes turned counter-clockwise by an angle.

    Counter-clockwise as the receiver of the light sees it, like the AoLP of this package. Light that leaves a surface
    whose s axis appears at angle a from image-right is, in the image's axes, `mueller_rotation(-a) @ (S in s/p)`.

    Args:
        angle_rad: (...), radians.

    Returns:
        (..., 4, 4): S1' = cos(2a) S1 + sin(2a) S2, S2' = -sin(2a) S1 + cos(2a) S2; S0 and S3 stay.

    Raises:
        ValueError: `angle_rad` is not a floating-point tensor.
    """
    _require_floating("angle_rad", angle_rad)
    cos, sin = torch.cos(2 * angle_rad), torch.sin(2 * angle_rad)
    one, zero = torch.ones_like(cos), torch.zeros_like(cos)
    rows = [one, zero, zero, zero, zero, cos, sin, zero, zero, -sin, cos, zero, zero, zero, zero, one]
    return torch.stack(rows, dim=-1).reshape(*zero.shape, 4, 4)


def _refract(cos_i: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
    """(eta * cos of the refracted angle)^2, negative beyond the critical angle, and its root, where it is positive."""
    # eta^2 - 1 + cos^2 rather than 1 - sin^2 / eta^2: exact at eta = 1 and at grazing incidence in float32.
    squared = (eta - 1) * (eta + 1) + cos_i**2
    return squared, _root_where(squared > 0, squared)


def _root_where(valid: Tensor, squared: Tensor) -> Tensor:
    """The square root, and 1 where it is not valid: `torch.where` alone would still send NaN back through the root."""
    return torch.sqrt(torch.where(valid, squared, torch.ones_like(squared)))


def _cross_terms(cos_i: Tensor, eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Re(r_s r_p*) and Im(r_s r_p*) of the reflection, and t_s t_p, as power, of the transmission."""
    squared, y = _refract(cos_i, eta)
    x = eta**2 * cos_i
    # Products of quotients, because quotients of products underflow near grazing incidence.
    real = (cos_i - y) / (cos_i + y) * ((x - y) / (x + y))
    passed = eta * (2 * cos_i / (cos_i + y)) * (2 * y / (x + y))

    # Beyond the critical angle y = -i q: r_s = (cos + i q) / (cos - i q), and r_p the same with x in place of cos.
    q = _root_where(squared < 0, -squared)
    scale = (cos_i**2 + q**2) * (x**2 + q**2)
    total_real = ((cos_i**2 - q**2) * (x**2 - q**2) + 4 * cos_i * x * q**2) / scale
    total_imaginary = 2 * q * (x - cos_i) * (cos_i * x + q**2) / scale

    zero, one = torch.zeros_like(squared), torch.ones_like(squared)
    real = torch.where(squared > 0, real, torch.where(squared < 0, total_real, one))
    return real, torch.where(squared < 0, total_imaginary, zero), torch.where(squared > 0, passed, zero)


def _mueller(share_s: Tensor, share_p: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """The (..., 4, 4) matrix that scales s and p by their shares and couples S2 and S3 by the complex cross term."""
    mean, half_difference, zero = (share_s + share_p) / 2, (share_s - share_p) / 2, torch.zeros_like(share_s)
    rows = [mean, half_difference, zero, zero, half_difference, mean, zero, zero]
    rows += [zero, zero, real, imaginary, zero, zero, -imaginary, real]
    return torch.stack(rows, dim=-1).reshape(*zero.shape, 4, 4)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0, with gradient 0, where there is nothing to share."""
    some = whole > 0
    return torch.where(some, part, torch.zeros_like(part)) / torch.where(some, whole, torch.ones_like(whole))


def _checked(cos_incidence: Tensor, eta: float | Tensor) -> tuple[Tensor, Tensor]:
    """Clamped cosine and the index as a tensor beside it, after the checks every function here makes."""
    _require_floating("cos_incidence", cos_incidence)
    if isinstance(eta, Tensor):
        return cos_incidence.clamp(0, 1), eta.to(cos_incidence)
    if not eta > 0:
        raise ValueError(f"eta is {eta}; wanted a positive ratio of refractive indices, such as 1.5")
    return cos_incidence.clamp(0, 1), cos_incidence.new_tensor(float(eta))


def _require_floating(name: str, value: Tensor) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} is {found}; wanted a floating-point tensor")
