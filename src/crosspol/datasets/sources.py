"""One data set of a run: which split of it, opened for which rig, and what it is called."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from crosspol.datasets.config import TRAINING, DataConfig, SourceConfig
from crosspol.datasets.reader import Request, Source
from crosspol.datasets.registry import PROCEDURAL, SOURCES
from crosspol.errors import UsageError
from crosspol.rigs.sensor import sense

# More than any run asks for, and of any data set still an index.
REPEATS = 2**40
# What a seed is drawn for: no two draw the same numbers.
MIXING, CHANGING, SEEING, REPLAYING = range(4)


def usable_sources(data: DataConfig) -> list[tuple[int, str, SourceConfig]]:
    """The data sets that serve `data.rig`, with their numbers and the settings that name them.

    Where several rigs take turns, a data set may lack what some of them record; of a single one it is asked when it is
    opened.
    """
    sources = [(number, *named) for number, named in enumerate(data.named_sources())]
    usable = [entry for entry in sources if data.rig in (entry[2].rigs or (data.rig,))]
    if len(set(data.turns)) > 1:
        usable = [entry for entry in usable if _serves(data, *entry[1:])]
    if not usable:
        raise UsageError(f"data.rigs: got no data set with what rig {data.rig} records, wanted one, or other rigs")
    return usable


def _serves(data: DataConfig, key: str, source: SourceConfig) -> bool:
    if source.kind == PROCEDURAL or source.virtual_glass:
        return True
    with named(key):
        return SOURCES[source.kind].serves(_request(data, source))


def open_source(data: DataConfig, source: SourceConfig, split: str | None, number: int, repeats: int) -> Source:
    """Open a split of a data set on a disk, as it is; what a sensor has to see repeats."""
    camera = partial(sense, config=data.sensor) if source.sensor else None
    asked = _request(data, source, split=split, camera=camera, seed=seed_for(data, number, SEEING), repeats=repeats)
    return SOURCES[source.kind].open(asked)


def training_split(source: SourceConfig) -> str | None:
    """The split of a data set that is trained on; None: all."""
    if source.split is not None:
        return source.split
    if source.kind == PROCEDURAL:
        return None
    return TRAINING if SOURCES[source.kind].named_splits(Request(str(source.path))) else None


def named_splits(data: DataConfig, source: SourceConfig) -> Collection[str]:
    """The splits that a data set names, of what the run's rig can use."""
    reader = SOURCES[source.kind]
    return reader.open(_request(data, source)).splits if reader.names_splits else ()


def _request(data: DataConfig, source: SourceConfig, **more: Any) -> Request:
    return Request(
        str(source.path),
        # Virtual glass is recorded by the run's rig later.
        rig="none" if source.virtual_glass else data.rig,
        plain=source.virtual_glass,
        pol_channels=data.pol_channels,
        rig_file=source.rig_file,
        **more,
    )


def described(source: SourceConfig, split: str | None) -> str:
    """Say in words what a data set is."""
    share = "" if source.glass_probability is None else f", {100 * source.glass_probability:.3g} % with glass"
    if source.kind == PROCEDURAL:
        return f"procedural scenes{share}"
    glass = f" with virtual glass{share}" if source.virtual_glass else ""
    return f"{source.kind} {source.path}{'' if split is None else f' ({split})'}{glass}"


def seed_for(data: DataConfig, number: int, purpose: int) -> int:
    """Return the seed of one purpose (`MIXING`, ...) of data set or rig `number`."""
    return int(np.random.SeedSequence([data.seed, number, purpose]).generate_state(1)[0])


@contextmanager
def named(key: str) -> Iterator[None]:
    """Say which setting named the data set that cannot be used."""
    try:
        yield
    except UsageError as error:
        raise type(error)(f"{key}: {error}") from error
