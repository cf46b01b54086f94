"""Kinds of stereo rigs."""

from __future__ import annotations

from typing import Literal

RigKind = Literal["quad", "quad-left", "crossed", "none"]


RIG_KINDS: tuple[RigKind, ...] = ("quad", "quad-left", "crossed", "none")
