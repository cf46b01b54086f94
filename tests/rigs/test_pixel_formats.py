"""Unpacking against the bit streams of the naming convention, written out bit by bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import UsageError
from crosspol.rigs.pixel_formats import PixelFormat, parse_pixel_format, stored_bytes, unpack
from crosspol.rigs.rig import Camera


def pack(values: list[int], bits: int) -> bytes:
    """PFNC's p formats: one stream of bits, the lowest bit of the first value first."""
    stream = sum(value << (index * bits) for index, value in enumerate(values))
    return stream.to_bytes((len(values) * bits + 7) // 8, "little")


@given(bits=st.sampled_from([10, 12, 14]), data=st.data())
def test_packed_streams_come_back(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=19))
    unpacked = unpack(pack(values, bits), PixelFormat(bits, "p"), len(values))
    assert unpacked.dtype == np.uint16
    assert unpacked.tolist() == values


def test_mono12p_by_hand() -> None:
    # 0xABC and 0x123: low byte of the first, its high nibble below the second's low nibble, the second's high byte.
    assert unpack(bytes([0xBC, 0x3A, 0x12]), parse_pixel_format("Mono12p"), 2).tolist() == [0xABC, 0x123]


def test_gige_packed_by_hand() -> None:
    # High bytes of both values outside; in the middle, the second's low bits above the first's.
    data = bytes([0xAB, 0x3C, 0x12])
    assert unpack(data, parse_pixel_format("Mono12Packed"), 2).tolist() == [0xABC, 0x123]
    assert unpack(bytes([0xAB, 0x21, 0x12]), parse_pixel_format("Mono10Packed"), 2).tolist() == [
        (0xAB << 2) | 1,
        (0x12 << 2) | 2,
    ]


@given(data=st.data())
def test_gige_packed_comes_back(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 4095), min_size=1, max_size=9))
    even = [*values, 0] if len(values) % 2 else values
    packed = b"".join(
        bytes([one >> 4, (other & 15) << 4 | (one & 15), other >> 4])
        for one, other in zip(even[::2], even[1::2], strict=True)
    )
    pixel_format = parse_pixel_format("Mono12Packed")
    assert unpack(packed[: stored_bytes(pixel_format, len(values))], pixel_format, len(values)).tolist() == values


@pytest.mark.parametrize(("name", "bits"), [("Mono10", 10), ("Mono12", 12), ("Mono16", 16), ("PolarizeMono12", 12)])
def test_unpacked_formats_are_little_endian_words(name: str, bits: int) -> None:
    pixel_format = parse_pixel_format(name)
    assert pixel_format == PixelFormat(bits, "none")
    assert unpack(bytes([0x34, 0x02, 0xFF, 0x03]), pixel_format, 2).tolist() == [0x234, 0x3FF]


def test_names_say_what_the_channels_are() -> None:
    assert parse_pixel_format("Mono8") == PixelFormat(8, "none")
    assert parse_pixel_format("BayerRG12p") == PixelFormat(12, "p", bayer="RGGB")
    assert parse_pixel_format("PolarizedAngles_0d_45d_90d_135d_Mono8") == PixelFormat(8, "none", 4, None, "angles")
    assert parse_pixel_format("PolarizedStokes_S0_S1_S2_S3_Mono12p") == PixelFormat(12, "p", 4, None, "stokes")
    assert parse_pixel_format("PolarizedStokes_S0_S1_S2_Mono16") == PixelFormat(16, "none", 3, None, "stokes")
    assert parse_pixel_format("PolarizedDolpAolp_Mono8") == PixelFormat(8, "none", 2, None, "dolp-aolp")


@pytest.mark.parametrize("name", ["", "Mono", "Mono9", "Mono8p", "Mono16p", "Mono14Packed", "RGB8", "Mono12p ", "8"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"pixel_format: got .*, wanted Mono or Bayer"):
        parse_pixel_format(name)


@given(bits=st.sampled_from([10, 12, 14]), values=st.integers(1, 40))
def test_too_short_data_are_refused(bits: int, values: int) -> None:
    pixel_format = PixelFormat(bits, "p")
    wanted = stored_bytes(pixel_format, values)
    assert wanted == len(pack([0] * values, bits))
    with pytest.raises(ValueError, match=f"wanted {wanted}"):
        unpack(b"\0" * (wanted - 1), pixel_format, values)


@pytest.mark.parametrize(
    ("name", "same_as", "bayer"),
    [
        ("Polarized8", "Mono8", None),
        ("Polarized10p", "Mono10p", None),
        ("Polarized12p", "Mono12p", None),
        ("Polarized16", "Mono16", None),
        ("BayerRGPolarized8", "BayerRG8", "RGGB"),
        ("BayerRGPolarized12p", "BayerRG12p", "RGGB"),
    ],
)
def test_raw_mosaics_by_their_own_name(name: str, same_as: str, bayer: str | None) -> None:
    found = parse_pixel_format(name)
    assert found == replace(parse_pixel_format(same_as), content="mosaic")
    assert (found.channels, found.bayer) == (1, bayer)
    camera = Camera(pixel_format=name, bayer=bayer)
    assert camera.content == "mosaic"
    with pytest.raises(UsageError, match=r"content: got image with pixel_format .*, wanted content: mosaic"):
        replace(camera, content="image")


@pytest.mark.parametrize("name", ["Polarized12Packed", "Polarized14", "Polarized8p", "PolarizedRG8"])
def test_names_that_nobody_uses_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"pixel_format: got '{name}'"):
        parse_pixel_format(name)


def test_packed_and_p_are_two_orders_of_the_same_bytes() -> None:
    data = bytes([0xAB, 0x3C, 0x12])
    assert unpack(data, parse_pixel_format("Mono12Packed"), 2).tolist() == [0xABC, 0x123]
    assert unpack(data, parse_pixel_format("Mono12p"), 2).tolist() == [0xCAB, 0x123]
