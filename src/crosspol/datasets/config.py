"""What a run is trained on: procedural scenes, one's own data sets, or a mixture of several."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from crosspol.data.transforms import AugmentConfig
from crosspol.datasets.registry import KINDS, PROCEDURAL, SOURCES, SourceKind
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.rigs.sensor import SensorConfig
from crosspol.synthesis.procedural import ProceduralConfig, SceneConfig, check_reach, check_recording

OnBad = Literal["refuse", "skip"]
Polarization = Literal["own", "foreign", "oracle"]

# The splits where a source names no others.
TRAINING = "train"
VALIDATION = ("validation", "val")


@dataclass(frozen=True)
class SourceConfig:
    """One of the data sets of a run."""

    kind: SourceKind = PROCEDURAL
    """scenes: a folder with scenes.jsonl; manifest: a table of plain files; the others as their authors pack them."""
    path: str | None = None
    """Its folder or, of a manifest, its file."""
    weight: float = 1.0
    """How often samples come from it, relative to the others."""
    split: str | None = None
    """Split to train on. None: "train" of scenes and of a manifest that names splits; else all."""
    validation_split: str | None = None
    """Split to validate on. None: "validation" or "val", where scenes or a manifest have it."""
    rig_file: str | None = None
    """rig.yaml of the cameras, where a manifest lists their frames."""
    virtual_glass: bool = False
    """Put panes into pairs without polarization; they are then recorded by data.rig."""
    sensor: bool = True
    """Scenes pass data.sensor; false: a camera without noise that does not clip."""
    rigs: tuple[RigKind, ...] = ()
    """Rigs that it serves, some of the run's; none named: all of them that it has the recordings of."""
    glass_probability: float | None = None
    """Share of procedural scenes, or of pairs that get virtual glass, with glass, in [0, 1]; None: that of
    data.procedural."""


@dataclass(frozen=True)
class DataConfig:
    """Training samples: the procedural set, an endless stream, unless other data are named.

    Raises:
        ValueError: a value is out of its range, or settings contradict each other.
    """

    size: tuple[int, int] = (256, 320)
    """Height and width of the crops that are trained on, px, both at least 32."""
    seed: int = 0
    """Of what is drawn, and in what order; at least 0."""
    rig: RigKind = "quad"
    """What the run is validated on, and what it is trained on where data.rigs names no others."""
    pol_channels: int = 1
    """Of the network's polarization; 1: DoLP; 3: S1/S0, S2/S0 and DoLP."""
    procedural: SceneConfig = field(default_factory=SceneConfig)
    """What procedural scenes are like; glass_probability and noise are those of virtual glass as well, and noise that
    of scenes that are used several times."""
    scenes: str | None = None
    """Train on this folder with scenes.jsonl (rendered or your own) instead of procedural scenes."""
    manifest: str | None = None
    """Train on the files that this table (.csv, .jsonl) lists, likewise; with data.scenes, on both."""
    split: str | None = None
    """Split of them to train on; None: "train", or all of a manifest that names no splits."""
    validation_split: str | None = None
    """Split of them to validate on; None: "validation" or "val" where there is one, else procedural scenes."""
    sources: tuple[SourceConfig, ...] = ()
    """A mixture of data sets; in a file given with --config (docs/data.md)."""
    rigs: tuple[RigKind, ...] = ()
    """Rigs that take turns in training, one a batch; one named twice has twice the turns. None: rig alone."""
    replay: int = 1
    """How often a drawn or read scene is used, cropped, flipped, lit and noisy otherwise each time."""
    buffer: int = 256
    """Scenes, over all rigs, that are kept at most where replay is above 1: the more, the further apart their uses."""
    margin: float = 0.25
    """How much larger than the crop scenes are drawn that are used several times, as a share of each side."""
    polarization_dropout: float = 0.0
    """Share of samples whose polarization is taken away (not valid in both views), in [0, 1]."""
    polarization: Polarization = "own"
    """What the network is shown as polarization: each sample's own; that of another sample of its batch (foreign: a
    control); the true glass mask (oracle: the most that any such cue can bring)."""
    on_bad: OnBad = "refuse"
    """A sample that cannot be read ends the run (refuse), or the next one stands in and the log names it (skip)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Changes of samples that are not procedural, or used several times."""
    sensor: SensorConfig = field(default_factory=SensorConfig)
    """What records the light of scenes; the other data were recorded already."""

    def __post_init__(self) -> None:
        check_recording(self.size, self.seed, self.rig, self.pol_channels)
        try:
            check_reach(self.procedural.max_disparity, self.size)
        except ValueError as error:
            raise ValueError(f"procedural.{error}") from error
        short = self.scenes is not None or self.manifest is not None
        if short and self.sources:
            name = "scenes" if self.scenes is not None else "manifest"
            raise ValueError(f"data.{name}: got it beside data.sources, wanted one of them")
        for name in ("split", "validation_split"):
            if getattr(self, name) is not None and not short:
                raise ValueError(f"data.{name}: got it without data.scenes or data.manifest, wanted one of them")
        if self.on_bad not in get_args(OnBad):
            raise ValueError(f"data.on_bad: got {self.on_bad!r}, wanted one of {', '.join(get_args(OnBad))}")
        if self.polarization not in get_args(Polarization):
            raise ValueError(
                f"data.polarization: got {self.polarization!r}, wanted one of {', '.join(get_args(Polarization))}"
            )
        for rig in self.rigs:
            if rig not in RIG_KINDS:
                raise ValueError(f"data.rigs: got {rig!r}, wanted some of {', '.join(RIG_KINDS)}")
        for name in ("replay", "buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name}: got {getattr(self, name)}, wanted at least 1")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"data.margin: got {self.margin}, wanted a share in [0, 1]")
        if not 0 <= self.polarization_dropout <= 1:
            raise ValueError(f"data.polarization_dropout: got {self.polarization_dropout}, wanted a share in [0, 1]")
        if self.polarization != "own" and "crossed" in (self.rig, *self.rigs):
            raise ValueError(
                f"data.polarization: got {self.polarization} with rig crossed, which has no map; wanted own"
            )
        if self.polarization != "own" and set(self.turns) == {"none"}:
            raise ValueError(
                f"data.polarization: got {self.polarization} with rig none alone, of which nothing would be replaced; "
                "wanted own, or another rig too"
            )
        for key, source in self.named_sources():
            _check(key, source, self.turns)

    @property
    def turns(self) -> tuple[RigKind, ...]:
        """The rigs in the order of their batches; it repeats."""
        return self.rigs or (self.rig,)

    def drawn(self, length: int) -> ProceduralConfig:
        """Return the procedural set of the run's size, seed, rig and channels, with so many samples."""
        return ProceduralConfig(
            size=self.size,
            length=length,
            seed=self.seed,
            rig=self.rig,
            pol_channels=self.pol_channels,
            **vars(self.procedural),
        )

    def of(self, source: SourceConfig) -> DataConfig:
        """Return the settings under which scenes of one of the data sets are made."""
        if source.glass_probability is None:
            return self
        return replace(self, procedural=replace(self.procedural, glass_probability=source.glass_probability))

    def named_sources(self) -> Iterator[tuple[str, SourceConfig]]:
        """Yield the data sets of the run, each with the setting that names it."""
        for number, source in enumerate(self.sources):
            yield f"data.sources.{number}", source
        own = SourceConfig(split=self.split, validation_split=self.validation_split)
        if self.scenes is not None:
            yield "data.scenes", replace(own, kind="scenes", path=self.scenes)
        if self.manifest is not None:
            yield "data.manifest", replace(own, kind="manifest", path=self.manifest)
        if not self.sources and self.scenes is None and self.manifest is None:
            yield "data", SourceConfig()


def _check(key: str, source: SourceConfig, rigs: tuple[RigKind, ...]) -> None:
    kind = source.kind
    if kind not in KINDS:
        raise ValueError(f"{key}.kind: got {kind!r}, wanted one of {', '.join(KINDS)}")
    reader = SOURCES.get(kind)
    if not 0 < source.weight < math.inf:
        raise ValueError(f"{key}.weight: got {source.weight}, wanted more than 0")
    if (source.path is None) != (reader is None):
        wanted = "none: procedural scenes are on no disk" if reader is None else reader.on_disk
        raise ValueError(f"{key}.path: got {source.path!r} for kind {kind}, wanted {wanted}")
    has = frozenset() if reader is None else reader.settings
    for name in ("split", "validation_split"):
        if getattr(source, name) is not None and name not in has:
            raise ValueError(f"{key}.{name}: got {getattr(source, name)!r}, wanted none: {kind} has no splits")
    # Whether a data set names splits is seen when it is read; where none does, all of it is trained on.
    trained = source.split or (TRAINING if reader is not None and reader.names_splits else None)
    if source.validation_split is not None and trained in (None, source.validation_split):
        raise ValueError(
            f"{key}.validation_split: got {source.validation_split!r} where {trained or 'all'} is trained on, wanted "
            "another split"
        )
    if source.rig_file is not None and "rig_file" not in has:
        raise ValueError(f"{key}.rig_file: got {source.rig_file!r} for kind {kind}, wanted it of a manifest only")
    if not source.sensor and "sensor" not in has:
        raise ValueError(f"{key}.sensor: got false for kind {kind}, wanted it of scenes only")
    if source.virtual_glass and (reader is None or source.rig_file is not None):
        raise ValueError(f"{key}.virtual_glass: got true for {kind}, wanted it for pairs without polarization only")
    for rig in source.rigs:
        if rig not in rigs:
            raise ValueError(f"{key}.rigs: got {rig!r}, wanted some of {', '.join(rigs)}, as the run has")
    if source.glass_probability is not None:
        if reader is not None and not source.virtual_glass:
            raise ValueError(
                f"{key}.glass_probability: got {source.glass_probability} for {kind}, wanted it of procedural scenes "
                "or with virtual_glass: others have the glass that they have"
            )
        if not 0 <= source.glass_probability <= 1:
            raise ValueError(f"{key}.glass_probability: got {source.glass_probability}, wanted a share in [0, 1]")
    rigs = source.rigs or rigs
    if reader is not None and not reader.polarized and "none" not in rigs and not source.virtual_glass:
        raise ValueError(
            f"{key}.virtual_glass: got false for {kind}, which has no polarization, and data.rig {', '.join(rigs)}; "
            "wanted true, or data.rig none"
        )
