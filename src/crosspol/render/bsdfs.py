"""Surfaces that polarize: a thin pane of our own, and descriptions of Mitsuba's solid dielectric and plastic.

Mitsuba's `thindielectric` and `diffuse` depolarize. Its `dielectric` follows Fresnel, and its `pplastic` polarizes
like paint or varnish (Baek et al. 2018: a rough Fresnel reflection, and a body that polarizes what leaves it).

In Mitsuba, `wi` points to where light goes (the camera) and `-wo` is the way it comes, both in the surface's own frame;
a Mueller matrix acts between the implicit Stokes bases of those two directions.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["PANE", "pane", "plastic", "register_bsdfs", "solid"]

PANE = "polarizing_pane"
"""Name of the thin pane in scene descriptions, after `register_bsdfs`."""

GLASS_ETA = 1.5


def pane(eta: float = GLASS_ETA) -> dict[str, Any]:
    """Describe a thin pane of refractive index `eta`: one sheet of triangles stands for both of its faces."""
    return {"type": PANE, "eta": eta}


def solid(eta: float = GLASS_ETA) -> dict[str, Any]:
    """Describe the boundary of a solid piece of glass; normals point outward, the outside is vacuum."""
    return {"type": "dielectric", "int_ior": eta, "ext_ior": 1.0}


def plastic(reflectance: dict[str, Any] | float, roughness: float, eta: float = GLASS_ETA) -> dict[str, Any]:
    """Describe a coated opaque surface that polarizes as paint, varnish, tiles and plastics do.

    Args:
        reflectance: of the body, in [0, 1]: a number or a description of a texture.
        roughness: of the coat (Beckmann alpha): 0.05 shines, 0.5 is dull.
        eta: refractive index of the coat.
    """
    if isinstance(reflectance, float):
        reflectance = {"type": "uniform", "value": reflectance}
    coat = {"type": "pplastic", "diffuse_reflectance": reflectance, "alpha": roughness, "int_ior": eta, "ext_ior": 1.0}
    return {"type": "twosided", "coat": coat}


def register_bsdfs(mitsuba: Any) -> None:
    """Make `PANE` known to Mitsuba under the variant that is set; once a variant, calling again does nothing."""
    _register(mitsuba.variant())


@cache
def _register(variant: str) -> None:
    # The base class exists only once a variant is set, and differs between variants.
    mi: Any = import_module("mitsuba")
    dr: Any = import_module("drjit")
    flags = mi.BSDFFlags

    class PolarizingPane(mi.BSDF):
        """Two parallel Fresnel interfaces with all reflections between them, added as intensities.

        Two delta lobes: mirror reflection, and straight-through transmission flagged `Null`, which lets `volpath`
        sample emitters through the pane. Mueller matrices as `crosspol.polarimetry.mueller_pane`.
        """

        def __init__(self, props: Any) -> None:
            mi.BSDF.__init__(self, props)
            self.eta = props.get("eta", GLASS_ETA)
            both = flags.FrontSide | flags.BackSide
            self.m_components = [flags.DeltaReflection | both, flags.Null | both]
            self.m_flags = flags.DeltaReflection | flags.Null | both

        def sample(self, ctx: Any, si: Any, sample1: Any, sample2: Any, active: Any) -> tuple[Any, Any]:
            reflection, transmission = self._shares(si)
            reflected_share = (reflection[0] + reflection[1]) / 2
            reflects = ctx.is_enabled(flags.DeltaReflection, 0)
            passes = ctx.is_enabled(flags.Null, 1)
            bs = mi.BSDFSample3f()
            if not (reflects or passes):
                return bs, mi.Spectrum(0)
            selected = (sample1 <= reflected_share) if reflects and passes else mi.Mask(reflects)
            bs.pdf = dr.select(selected, reflected_share, 1 - reflected_share) if reflects and passes else mi.Float(1)
            bs.sampled_component = dr.select(selected, mi.UInt32(0), mi.UInt32(1))
            bs.sampled_type = dr.select(selected, mi.UInt32(+flags.DeltaReflection), mi.UInt32(+flags.Null))
            bs.wo = dr.select(selected, mi.reflect(si.wi), -si.wi)
            bs.eta = 1.0
            # The two lobes differ in how light comes; both leave along wi.
            shares = [dr.select(selected, r, t) / bs.pdf for r, t in zip(reflection, transmission, strict=True)]
            weight = self._in_implicit_bases(_mueller(*shares), -bs.wo, si.wi)
            return bs, dr.select(active, weight, mi.Spectrum(0))

        def eval(self, ctx: Any, si: Any, wo: Any, active: Any) -> Any:
            return mi.Spectrum(0)

        def pdf(self, ctx: Any, si: Any, wo: Any, active: Any) -> Any:
            return mi.Float(0)

        def eval_pdf(self, ctx: Any, si: Any, wo: Any, active: Any) -> tuple[Any, Any]:
            return mi.Spectrum(0), mi.Float(0)

        def eval_null_transmission(self, si: Any, active: Any) -> Any:
            transmission = self._in_implicit_bases(_mueller(*self._shares(si)[1]), si.wi, si.wi)
            return dr.select(active, transmission, mi.Spectrum(0))

        def _shares(self, si: Any) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
            """(s, p, cross term) of reflection and of transmission, as power."""
            cosine = dr.abs(mi.Frame3f.cos_theta(si.wi))
            eta = mi.Float(self.eta)
            # eta times the refracted cosine, and eta^2 times the outer one, as in crosspol.polarimetry.fresnel.
            y, x = dr.sqrt(eta**2 - 1 + cosine**2), eta**2 * cosine
            amplitude_s, amplitude_p = (cosine - y) / (cosine + y), (x - y) / (x + y)
            surface_s, surface_p = amplitude_s**2, amplitude_p**2
            passed_once = eta * (2 * cosine / (cosine + y)) * (2 * y / (x + y))
            crossed = amplitude_s * amplitude_p
            passed = passed_once**2 / dr.maximum(1 - surface_s * surface_p, 1e-6)
            r_s, r_p = 2 * surface_s / (1 + surface_s), 2 * surface_p / (1 + surface_p)
            t_s, t_p = (1 - surface_s) / (1 + surface_s), (1 - surface_p) / (1 + surface_p)
            return (r_s, r_p, crossed * (1 + passed)), (t_s, t_p, passed)

        def _in_implicit_bases(self, matrix: Any, forward_in: Any, forward_out: Any) -> Any:
            """Turn a matrix from the s/p frame into the implicit Stokes bases of the two ways that light goes."""
            s_in, s_out = _s_axis(forward_in), _s_axis(forward_out)
            basis = mi.mueller.stokes_basis
            return mi.mueller.rotate_mueller_basis(
                matrix, forward_in, s_in, basis(forward_in), forward_out, s_out, basis(forward_out)
            )

        def to_string(self) -> str:
            return f"PolarizingPane[eta={self.eta}]"

    def _s_axis(forward: Any) -> Any:
        axis = dr.cross(mi.Vector3f(0, 0, 1), forward)
        # At normal incidence every axis in the surface is s.
        collinear = dr.squared_norm(axis) < 1e-12
        return dr.normalize(dr.select(collinear, mi.Vector3f(1, 0, 0), axis))

    def _mueller(share_s: Any, share_p: Any, cross_term: Any) -> Any:
        """Mueller matrix in the s/p frame, S1 > 0 along s."""
        mean, half, cross_term = (
            mi.UnpolarizedSpectrum(v) for v in ((share_s + share_p) / 2, (share_s - share_p) / 2, cross_term)
        )
        zero = mi.UnpolarizedSpectrum(0)
        rows = [[mean, half, zero, zero], [half, mean, zero, zero]]
        rows += [[zero, zero, cross_term, zero], [zero, zero, zero, cross_term]]
        return mi.Spectrum(rows)

    mi.register_bsdf(PANE, PolarizingPane)
