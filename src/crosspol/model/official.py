"""What RAFT-Stereo's authors call the tensors of their checkpoints, and where each belongs here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Role(NamedTuple):
    """Where a tensor of an official file belongs: the network's tensor, and which part of its first axis."""

    target: str
    part: int = 0
    parts: int = 1


# Official name to role, in this order. The first convolutions and stages are the same in every encoder; `trunk` and
# `pyramid` say where it sits. `convz` and `convr` become the two halves of one convolution.
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
_LEVELS = {"08": 0, "16": 1, "32": 2}
_BLOCK: Rules = (
    (r"\bdownsample\.", "shortcut."),
    (r"\bnorm3\.", "shortcut.1."),  # the same tensor as downsample.1, stored twice
)
_TRUNK: Rules = ((r"^conv1\.", "stem."), (r"^norm1\.", "stem_norm."), (r"^layer([123])\.", r"stage\1."), *_BLOCK)
_PYRAMID: Rules = (
    (r"^layer([45])\.", lambda m: f"downs.{int(m[1]) - 4}."),
    (r"^outputs(08|16|32)\.0\.", lambda m: f"hidden.{_LEVELS[m[1]]}."),
    (r"^outputs(08|16|32)\.1\.", lambda m: f"context.{_LEVELS[m[1]]}."),
    *_BLOCK,
)

_UPDATE: Rules = (
    (r"^encoder\.convc([12])\.", r"motion.correlation\1."),
    (r"^encoder\.convf([12])\.", r"motion.flow\1."),
    (r"^encoder\.conv\.", "motion.mix."),
    (r"^gru(08|16|32)\.", lambda m: f"grus.{_LEVELS[m[1]]}."),
    (r"\bconvq\.", "candidate."),
    (r"^flow_head\.conv([12])\.", r"flow_head\1."),
)
# The blueprint has the same roles at one level, under the names of its own composition.
_BLUEPRINT: Rules = (
    (r"^update\.grus\.0\.", "update.gru."),
    (r"^update\.flow_head1\.", "update.head.0."),
    (r"^update\.flow_head2\.", "update.head.2."),
    (r"^update\.motion\.correlation1\.", "update.motion.0."),
    (r"^update\.motion\.mix\.", "update.motion.2."),
    (r"^update\.context\.0\.", "update.context."),
    (r"^encoders\.context\.pyramid\.(hidden|context)\.0\.1\.", r"encoders.context.\1."),
)


def _rename(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


@dataclass(frozen=True)
class OfficialNames:
    """How one backbone takes an official checkpoint."""

    context: str = "encoders.context."
    """Where the context encoder sits."""
    renamed: Rules = ()
    """Applied last: roles that the backbone has under other names."""
    strict: bool = True
    """Every tensor of the backbone must come from the file; else what matches by role and shape is taken."""
    unused: re.Pattern[str] | None = None
    """Tensors of the file that its own network never reads."""

    def role(self, name: str) -> Role:
        """Return the role of a tensor of an official file, without the ``module.`` prefix."""
        prefix, _, rest = name.partition(".")
        if prefix == "fnet":
            head = rest.startswith("conv2.")
            inner = rest.replace("conv2.", "head.", 1) if head else "trunk." + _rename(rest, _TRUNK)
            target = "encoders.features." + inner
        elif prefix == "cnet":
            upper = re.match(r"layer[45]|outputs", rest) is not None
            target = self.context + (
                f"pyramid.{_rename(rest, _PYRAMID)}" if upper else f"trunk.{_rename(rest, _TRUNK)}"
            )
        elif prefix == "conv2":
            target = "encoders.features." + rest
        elif prefix == "context_zqr_convs":
            target = "update.context." + rest
        else:
            target = "update." + _rename(rest, _UPDATE)
        target = _rename(target, self.renamed)
        for part, gate in enumerate(("convz", "convr")):
            if f".{gate}." in target:
                return Role(target.replace(f".{gate}.", ".gates."), part, 2)
        return Role(target)


RAFT_STEREO_NAMES = OfficialNames()
# The real-time variant is built with a third level that its two-level refinement never reads.
REALTIME_NAMES = OfficialNames(
    context="encoders.", unused=re.compile(r"cnet\.(layer5|outputs32)\.|update_block\.gru32\.")
)
BLUEPRINT_NAMES = OfficialNames(renamed=_BLUEPRINT, strict=False)
