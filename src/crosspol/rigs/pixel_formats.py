"""Raw binary frames as machine-vision cameras write them: pixel formats by name, and how their bits are unpacked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError

__all__ = ["PixelFormat", "parse_pixel_format", "stored_bytes", "unpack"]

_NAME = re.compile(
    r"(?:Polarized?_?)?(?:(?P<structure>Angles_0d_45d_90d_135d|Stokes_S0_S1_S2_S3|Stokes_S0_S1_S2|DolpAolp)_)?"
    r"(?P<color>Mono|BayerRG|BayerBG|BayerGR|BayerGB)(?P<bits>8|10|12|14|16)(?P<packing>p|Packed)?",
    re.IGNORECASE,
)
_POLARIZED = re.compile(
    r"(?:Bayer(?P<color>RG|BG|GR|GB))?Polarized(?P<bits>8|10|12|16)(?P<packing>(?<=[02])p)?", re.IGNORECASE
)
"""Raw mosaics of polarizers, as Teledyne FLIR's cameras call them."""
_CHANNELS = {"angles_0d_45d_90d_135d": 4, "stokes_s0_s1_s2_s3": 4, "stokes_s0_s1_s2": 3, "dolpaolp": 2}
_BAYER = {"RG": "RGGB", "BG": "BGGR", "GR": "GRBG", "GB": "GBRG"}


@dataclass(frozen=True)
class PixelFormat:
    """How the numbers of a raw frame lie in memory.

    bits: of a value; the largest is 2^bits - 1.
    packing: "none" (whole bytes, little endian, value in the low bits), "p" (PFNC: a stream of bits, the lowest first),
        "packed" (GigE Vision: two values in three bytes, the low bits of both in the middle one).
    channels: values a pixel.
    bayer: color cell that the name implies; None for mono.
    content: what the channels are, in the words of `Camera.content`; None where the name says nothing of polarization.
    """

    bits: int
    packing: Literal["none", "p", "packed"]
    channels: int = 1
    bayer: str | None = None
    content: Literal["mosaic", "angles", "stokes", "dolp-aolp"] | None = None


def parse_pixel_format(name: str) -> PixelFormat:
    """Return what the GenICam name of a pixel format means, LUCID's polarized ones included.

    Examples are Mono8, Mono12p, Mono12Packed, BayerRG12p, PolarizeMono12p, PolarizedAngles_0d_45d_90d_135d_Mono8,
    Polarized12p and BayerRGPolarized12p. Mono12p and Mono12Packed take the same bytes in another order: a file does not
    show which of the two it is.

    Raises:
        UsageError: the name is not known.

    Source: GenICam Pixel Format Naming Convention 2.x; GigE Vision 2.0 for the formats called Packed.
    """
    polarized = _POLARIZED.fullmatch(name)
    if polarized is not None:
        mono = f"{'Bayer' + polarized['color'] if polarized['color'] else 'Mono'}"
        plain = parse_pixel_format(f"{mono}{polarized['bits']}{polarized['packing'] or ''}")
        return replace(plain, content="mosaic")
    match = _NAME.fullmatch(name)
    packing = match["packing"].lower() if match and match["packing"] else "none"
    bits = int(match["bits"]) if match else 0
    if match is None or (packing == "p" and bits in (8, 16)) or (packing == "packed" and bits not in (10, 12)):
        raise UsageError(
            f"pixel_format: got {name!r}, wanted Mono or Bayer.. with 8, 10, 12, 14 or 16 bits, such as Mono12p, or "
            "LUCID's PolarizedAngles_.., PolarizedStokes_.., PolarizedDolpAolp_.., or Polarized12p, BayerRGPolarized12p"
        )
    structure = (match["structure"] or "").lower()
    bayer = None if match["color"].lower() == "mono" else _BAYER[match["color"][-2:].upper()]
    content: Literal["mosaic", "angles", "stokes", "dolp-aolp"] | None = None
    if structure:
        content = "angles" if structure[0] == "a" else "stokes" if structure[0] == "s" else "dolp-aolp"
    unpacked: Literal["none", "p", "packed"] = "p" if packing == "p" else "packed" if packing == "packed" else "none"
    return PixelFormat(bits, unpacked, _CHANNELS.get(structure, 1), bayer, content)


def stored_bytes(pixel_format: PixelFormat, values: int) -> int:
    """How many bytes a number of values takes."""
    if pixel_format.packing == "none":
        return values * (1 if pixel_format.bits == 8 else 2)
    if pixel_format.packing == "packed":
        return (values * 3 + 1) // 2
    return (values * pixel_format.bits + 7) // 8


def unpack(data: bytes, pixel_format: PixelFormat, values: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the first `values` numbers of a frame.

    Args:
        data: at least `stored_bytes` bytes.
        pixel_format: as `parse_pixel_format` returns it.
        values: pixels times channels.

    Returns:
        (values,), uint8 for 8 bits and uint16 for more.

    Raises:
        ValueError: the data are too short.
    """
    wanted = stored_bytes(pixel_format, values)
    if len(data) < wanted:
        raise ValueError(f"data has {len(data)} bytes, wanted {wanted} for {values} values of {pixel_format}")
    if pixel_format.packing == "none":
        stored = np.frombuffer(data, np.uint8 if pixel_format.bits == 8 else np.dtype("<u2"), count=values)
        return stored.astype(stored.dtype.newbyteorder("="))
    # Values and bytes come in groups that repeat: 2 values in 3 bytes for 12 bits, 4 in 5 for 10, 4 in 7 for 14.
    group_values, group_bytes = (
        (2, 3)
        if pixel_format.packing == "packed" or pixel_format.bits == 12
        else (
            4,
            pixel_format.bits // 2,
        )
    )
    groups = -(-values // group_values)
    padded = np.zeros(groups * group_bytes + 1, np.uint8)
    padded[:wanted] = np.frombuffer(data, np.uint8, count=wanted)
    unpacked = np.empty((groups, group_values), np.uint16)
    for place in range(group_values):
        if pixel_format.packing == "packed":
            low_bits = pixel_format.bits - 8
            high = padded[2 * place : -1 : 3][:groups].astype(np.uint16)
            low = padded[1::3][:groups].astype(np.uint16) >> (4 * place)
            unpacked[:, place] = (high << low_bits) | (low & ((1 << low_bits) - 1))
            continue
        first, shift = divmod(place * pixel_format.bits, 8)
        # A value of up to 14 bits, shifted by up to 7, can reach into a third byte.
        joined = sum(
            padded[first + byte :: group_bytes][:groups].astype(np.uint32) << (8 * byte)
            for byte in range((shift + pixel_format.bits + 7) // 8)
        )
        unpacked[:, place] = (joined >> shift) & ((1 << pixel_format.bits) - 1)
    return unpacked.reshape(-1)[:values]
