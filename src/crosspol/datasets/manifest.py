"""One's own files as a data set: a table, CSV or JSONL, that says which files belong together.

Columns are paths within the table's folder, relative to it; a cell may be empty where the column is optional.

- `left`, `right`: images. With a rig (`rig.yaml`) the cameras' frames instead, as `crosspol predict --rig` takes
  them.
- `disparity`: of the left view: PFM, 16-bit PNG (px * 256), NPY or NPZ; x_left - x_right, never negative, less than
  the width, and known somewhere. NaN, infinity and 0 are unknown.
- `disparity_scale`: optional, what the values of both disparity files are divided by: 32 for CREStereo's PNG, 100 for
  InStereo2K's; else 256 for PNG and 1 for the others.
- `disparity_zero`: optional, "known" where 0 in PFM and NumPy files is a point infinitely far away; else "unknown".
- `glass`, `occluded`: masks of the left view, optional; without `occluded`, it follows from the disparity. Without
  `glass` nothing is known of glass: no metric by glass then counts the pair, and no loss of glass.
- `disparity_background`: optional, the disparity with all glass removed.
- `pol_left`, `pol_right`: ready maps, DoLP or, in a NumPy file, S1/S0, S2/S0, DoLP; the left one alone is rig
  "quad-left".
- `intensity_left`, `intensity_right`: linear, of a crossed pair.
- `valid_left`, `valid_right`: optional, where maps or intensities are trusted.
- `id`, `split`: a name (else that of the left file) and a split.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from crosspol.data.arguments import as_intensity, as_mask, as_polarization, read_view
from crosspol.data.indexed import Indexed
from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoSample
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.datasets.ranges import check_disparity
from crosspol.datasets.reader import Reader, Request
from crosspol.errors import UsageError, did_you_mean
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image
from crosspol.io.inside import check_inside, check_relative
from crosspol.io.reading import check_file, read_bytes
from crosspol.io.structured import decode, read_json_lines
from crosspol.limits import LONGEST_NUMBER, TABLE_BYTES
from crosspol.rigs.kinds import RigKind
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rig import Rig

__all__ = ["COLUMNS", "Manifest", "ManifestRow", "read_manifest"]

_FILES = ("left", "right", "disparity", "glass", "occluded", "disparity_background")
_POLARIZATION = ("pol_left", "pol_right", "valid_left", "valid_right", "intensity_left", "intensity_right")
_NEEDED = ("left", "right", "disparity")
_SETTINGS = ("disparity_scale", "disparity_zero")
_TEXTS = ("id", "split", *_SETTINGS)
_ZEROS = ("unknown", "known")

COLUMNS = (*_FILES, *_POLARIZATION, *_TEXTS)
"""Every column that a manifest can have."""

_Read = TypeVar("_Read")

_log = logging.getLogger(__name__)
_said: set[str] = set()


@dataclass(frozen=True)
class ManifestRow:
    """One pair of a manifest.

    name: its own, or that of its left file.
    cells: what the row says, by column, without empty cells.
    line: where in the file, from 1.
    """

    name: str
    cells: Mapping[str, str]
    line: int

    @property
    def split(self) -> str | None:
        """The split that the pair is of, where the manifest says so."""
        return self.cells.get("split")

    def read_disparity(self, path: Path) -> NDArray[np.float32]:
        """Read a disparity file of the row, as its settings say."""
        scale = self.cells.get("disparity_scale")
        return read_disparity(
            path,
            scale=None if scale is None else float(scale),
            zero_is_unknown=self.cells.get("disparity_zero") != "known",
        )

    @property
    def rig(self) -> RigKind:
        """What was recorded, by the columns that are filled."""
        if "intensity_left" in self.cells:
            return "crossed"
        if "pol_left" in self.cells:
            return "quad" if "pol_right" in self.cells else "quad-left"
        return "none"


def read_manifest(path: str | os.PathLike[str]) -> list[ManifestRow]:
    """Read a manifest, `.csv` or `.jsonl`; whether its files exist is not looked at.

    Raises:
        MissingFileError: there is no such file.
        UsageError: a column that does not exist or is missing, or a row that contradicts itself; the message names
            the file, the line and the column.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: got the suffix {path.suffix!r}, wanted {' or '.join(readers)}")
    rows: list[ManifestRow] = []
    names: dict[str, int] = {}
    for line, values in reader(path):
        row = _row(path, line, values)
        if row.name in names:
            raise UsageError(f"{path}: line {line}: column id: got {row.name!r} again, it is in line {names[row.name]}")
        names[row.name] = line
        rows.append(row)
    if not rows:
        raise UsageError(f"{path}: got no row in it")
    return rows


class Manifest(Indexed):
    """The pairs of a manifest as samples."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        split: str | None = None,
        rig: str | os.PathLike[str] | Rig | None = None,
        pol_channels: int = 1,
    ) -> None:
        """Read the manifest and see that its files exist; they are read when they are asked for.

        Args:
            path: `.csv` or `.jsonl`.
            split: only rows of this split; None: all.
            rig: the description of a rig (`rig.yaml`), where `left` and `right` are its cameras' frames; they are
                rectified where it has a calibration, and the ground truth belongs to the rectified left view.
            pol_channels: of the network, 1 or 3.

        Raises:
            MissingFileError: the manifest or a file that it names does not exist.
            UsageError: the manifest is damaged, no row is left, or rows are of several rigs.
        """
        self.path, self.pol_channels = Path(path), pol_channels
        self.reader = None if rig is None else RigReader(rig)
        if self.reader is not None and self.reader.calibration is not None:
            _warn(*self.reader.calibration.warnings)
        found = read_manifest(self.path)
        self.rows = [row for row in found if split is None or row.split == split]
        if not self.rows:
            splits = ", ".join(sorted({row.split or "(empty)" for row in found}))
            raise UsageError(f"{self.path}: got no row of split {split!r}, wanted one of {splits}")
        self.rig: RigKind = self.rows[0].rig if self.reader is None else self.reader.rig.kind
        for row in self.rows:
            self._check(row)

    @property
    def names(self) -> list[str]:
        """Names of the pairs, in their order."""
        return [row.name for row in self.rows]

    @property
    def splits(self) -> set[str]:
        """The splits that the pairs name."""
        return {row.split for row in self.rows if row.split is not None}

    def __len__(self) -> int:
        return len(self.rows)

    def _sample(self, index: int) -> StereoSample:
        """Read pair `index`; what is wrong is named by the line and the column of the manifest."""
        row = self.rows[index]
        seen = self.inputs(row)
        truth = self.truth(row, seen.size)
        for name, plane in (("disparity", truth.disparity), ("disparity_background", truth.disparity_background)):
            if plane is not None:
                where = f"{self._place(row, name)}: {self.path.parent / row.cells[name]}"
                check_disparity(plane, where, some=name == "disparity")
        return make_sample(seen, self.rig, truth, row.name)

    def inputs(self, row: ManifestRow) -> StereoInputs:
        """Read what the network sees of a pair; all of one size."""
        return self._maps(row) if self.reader is None else self._frames(row, self.reader)

    def truth(self, row: ManifestRow, size: tuple[int, ...]) -> GroundTruth:
        """Read what is known of the left view of this size (H, W); whether disparities can be is not looked at."""
        disparity, background = (
            self._read(row, column, row.read_disparity) for column in ("disparity", "disparity_background")
        )
        glass, occluded = (self._read(row, column, _mask) for column in ("glass", "occluded"))
        maps = {"disparity": disparity, "disparity_background": background, "glass": glass, "occluded": occluded}
        for name, plane in maps.items():
            if plane is not None:
                self._fits(row, name, plane.shape, size)
        assert disparity is not None  # `read_manifest` refuses rows without it
        return GroundTruth(disparity, glass, occluded, background)

    def _check(self, row: ManifestRow) -> None:
        rig: RigKind = self.rig
        if self.reader is not None:
            for column in _POLARIZATION:
                if column in row.cells:
                    raise UsageError(f"{self._place(row, column)}: got a map, wanted none beside a rig's frames")
        elif row.rig != rig:
            first = self.rows[0].line
            raise UsageError(
                f"{self.path}: line {row.line}: got the columns of rig {row.rig!r}, wanted those of {rig!r} as in "
                f"line {first}"
            )
        for column, cell in row.cells.items():
            if column in _TEXTS or (self.reader is not None and "{" in cell):
                continue
            with self._named(row, column):
                check_file(self.path.parent / cell)

    def _maps(self, row: ManifestRow) -> StereoInputs:
        """Images and ready maps, as the network takes them."""

        def polarization(path: Path) -> NDArray[np.float32]:
            channels_last = as_polarization(read_image(path), str(path), self.pol_channels)
            return np.moveaxis(channels_last, 2, 0)

        def intensity(path: Path) -> NDArray[np.float32]:
            return np.moveaxis(as_intensity(read_image(path), str(path)), 2, 0)

        arrays: dict[str, NDArray[Any]] = {}
        for side in ("left", "right"):
            arrays[side] = self._needed(row, side, read_view)
            if row.rig == "crossed":
                arrays[f"intensity_{side}"] = self._needed(row, f"intensity_{side}", intensity)
            pol = self._read(row, f"pol_{side}", polarization)
            mask = self._read(row, f"valid_{side}", _mask)
            arrays |= {} if pol is None else {f"pol_{side}": pol}
            arrays |= {} if mask is None else {f"valid_{side}": mask[None]}
        for name, array in arrays.items():
            self._fits(row, name, array.shape[-2:], arrays["left"].shape[-2:])
        return StereoInputs.from_arrays(**arrays)

    def _frames(self, row: ManifestRow, reader: RigReader) -> StereoInputs:
        """The cameras' frames, as the predictor reads them."""
        root = self.path.parent
        left, right = (str(root / row.cells[side]) for side in ("left", "right"))
        with self._named(row, "left, right"):
            for path in reader.files(left, right):
                check_inside(root, path, path.name)
            pair = reader.read(left, right)
        _warn(*pair.warnings)
        return StereoInputs.from_frames(pair.left, pair.right, reader.rig.kind, self.pol_channels)

    def _read(self, row: ManifestRow, column: str, read: Callable[[Path], _Read]) -> _Read | None:
        if column not in row.cells:
            return None
        with self._named(row, column):
            return read(check_inside(self.path.parent, self.path.parent / row.cells[column], column))

    def _needed(self, row: ManifestRow, column: str, read: Callable[[Path], _Read]) -> _Read:
        with self._named(row, column):
            return read(check_inside(self.path.parent, self.path.parent / row.cells[column], column))

    def _fits(self, row: ManifestRow, column: str, found: tuple[int, ...], size: tuple[int, ...]) -> None:
        if tuple(found) != tuple(size):
            wanted = f"{size[1]}x{size[0]} px as the left view"
            raise UsageError(f"{self._place(row, column)}: got {found[1]}x{found[0]} px, wanted {wanted}")

    @contextmanager
    def _named(self, row: ManifestRow, column: str) -> Iterator[None]:
        """Say where in the manifest a file that cannot be used was named."""
        try:
            yield
        except UsageError as error:
            raise type(error)(f"{self._place(row, column)}: {error}") from error

    def _place(self, row: ManifestRow, column: str) -> str:
        return f"{self.path}: line {row.line}: column {column}"


def _warn(*messages: str) -> None:
    """Say each line once in a process: every pair of a rig has the same to say."""
    for message in messages:
        if message not in _said:
            _said.add(message)
            _log.warning("warning: %s", message)


def _check_columns(path: Path, line: int, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in COLUMNS:
            hint = did_you_mean(column, COLUMNS)
            raise UsageError(f"{path}: line {line}: column {column}: wanted one of {', '.join(COLUMNS)}{hint}")


def _row(path: Path, line: int, values: Mapping[str, Any]) -> ManifestRow:
    _check_columns(path, line, values)
    # In JSON a scale may be a number.
    scale = values.get("disparity_scale")
    if isinstance(scale, int | float) and not isinstance(scale, bool):
        values = {**values, "disparity_scale": repr(scale)}
    for column, value in values.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{path}: line {line}: column {column}: got {value!r:.80}, wanted a string")
    cells = {column: value.strip() for column, value in values.items() if value is not None and value.strip()}
    for column in (*_FILES, *_POLARIZATION):
        if column in cells:
            check_relative(cells[column], f"{path}: line {line}: column {column}")
    for column in _NEEDED:
        if column not in cells:
            raise UsageError(f"{path}: line {line}: column {column}: got nothing, wanted a file")
    zero = cells.get("disparity_zero", "unknown")
    if zero not in _ZEROS:
        raise UsageError(f"{path}: line {line}: column disparity_zero: got {zero!r:.80}, wanted {' or '.join(_ZEROS)}")
    scale = cells.get("disparity_scale", "1")
    if not _is_positive(scale):
        raise UsageError(f"{path}: line {line}: column disparity_scale: got {scale!r:.80}, wanted a number above 0")
    maps = "intensity" if "intensity_left" in cells else "pol"
    for column, wanted in (
        ("valid_left", f"{maps}_left"),
        ("valid_right", f"{maps}_right"),
        ("pol_right", "pol_left"),
        ("intensity_left", "intensity_right"),
        ("intensity_right", "intensity_left"),
    ):
        if column in cells and wanted not in cells:
            raise UsageError(f"{path}: line {line}: column {column}: got it without {wanted}, wanted both")
    if "pol_left" in cells and "intensity_left" in cells:
        raise UsageError(f"{path}: line {line}: column pol_left: got it beside intensity_left, wanted one of them")
    return ManifestRow(cells.get("id", cells["left"]), cells, line)


def _is_positive(text: str) -> bool:
    try:
        return len(text) <= LONGEST_NUMBER and 1e-30 < float(text) < 1e30
    except ValueError:
        return False


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = decode(read_bytes(path, TABLE_BYTES, what="a table"), path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in _NEEDED:
            if column not in header:
                found = ", ".join(header) or "nothing"
                raise UsageError(f"{path}: line 1: got the columns {found}, wanted {', '.join(_NEEDED)} among them")
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{path}: line 1: column {twice}: got it twice")
        _check_columns(path, 1, header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{path}: line {reader.line_num}: got {len(cells)} cells, wanted {len(header)} as in the header"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: not a row of a CSV file ({error})") from error


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, place, values in read_json_lines(path):
        if not isinstance(values, dict):
            raise UsageError(f"{place}: got {type(values).__name__}, wanted a JSON object")
        yield line, values


def _mask(path: Path) -> NDArray[np.bool_]:
    return as_mask(read_image(path), str(path))[..., 0]


def _opened(request: Request) -> Manifest:
    manifest = Manifest(request.path, split=request.split, rig=request.rig_file, pol_channels=request.pol_channels)
    if manifest.rig != request.rig:
        raise UsageError(
            f"{request.path}: got pairs of rig {manifest.rig}, wanted {request.rig} (all data have one rig)"
        )
    return manifest


def _rigs(request: Request) -> Collection[RigKind]:
    return (Manifest(request.path, rig=request.rig_file, pol_channels=request.pol_channels).rig,)


def _splits(request: Request) -> Collection[str]:
    return {row.split for row in read_manifest(request.path) if row.split is not None}


READER = Reader(
    _opened,
    _rigs,
    _splits,
    polarized=True,
    settings=frozenset({"split", "validation_split", "rig_file"}),
    on_disk="a file",
)
