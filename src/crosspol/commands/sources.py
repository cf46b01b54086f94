"""Where the pairs of a run come from: files, what a rig's cameras wrote, videos, or both views side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.pair import order_in_doubt
from crosspol.commands.pairs import RAW_SUFFIXES, Pair, find_pairs, list_images
from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError, refuse
from crosspol.inference.items import Item, Ready
from crosspol.inference.polarization import PolarizationMaps
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import check_calibration
from crosspol.io.images import IMAGE_SUFFIXES, read_image, read_image_size
from crosspol.io.videos import VIDEO_SUFFIXES, Video
from crosspol.limits import MINIMUM_SIDE
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.raw_structure import looks_like_mosaic
from crosspol.rigs.reader import RigReader

__all__ = [
    "Arguments",
    "FilePairs",
    "Known",
    "RigPairs",
    "Source",
    "VideoPairs",
    "find_source",
    "with_doubt",
    "with_doubt_of_first",
]

# {angle} and {map} in a path, with what separates them from the rest of the name.
_SEVERAL_FILES = re.compile(r"[\W_]*\{(angle|map)[^}]*\}[\W_]*")

_DIGITS = 6
"""Of the number of a video's frame in names of files, from 1."""


@dataclass(frozen=True)
class Arguments:
    """What was asked for, as the flags of `crosspol predict` say it."""

    left: str
    right: str | None
    polarization_left: str | None = None
    polarization_right: str | None = None
    rig: Path | None = None
    side_by_side: bool = False
    keep_polarization: bool = False
    calibration: Path | None = None


@dataclass(frozen=True)
class Known:
    """The calibration of rectified views, and its file; None where there is none."""

    calibration: StereoCalibration | None = None
    path: Path | None = None

    @classmethod
    def read(cls, arguments: Arguments) -> Known:
        """Read what --calibration names.

        Raises:
            UsageError: it is none of rectified views, or beside --rig.
        """
        path = arguments.calibration
        if path is None:
            return cls()
        if arguments.rig is not None:
            raise UsageError(f"--calibration: got {path} beside --rig, wanted one or the other: a rig names its own")
        calibration = read_calibration(path)
        if not calibration.rectified:
            raise UsageError(
                f"{path}: got a calibration of raw views, wanted one of the rectified pair; for images that are not "
                "rectified, name it in a rig of kind none (crosspol rig init)"
            )
        return cls(calibration, path)

    def check(self, size: tuple[int, ...]) -> None:
        """Refuse views of another size, (H, W)."""
        if self.calibration is not None:
            check_calibration(self.calibration, size, self.path)

    def files(self) -> list[Path]:
        """Return the file."""
        return [] if self.path is None else [self.path]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will not be good, a line each."""
        return () if self.calibration is None else self.calibration.warnings


Wanted = Callable[[str, tuple[Path, ...]], bool]
"""Whether a pair of this stem and these files is still to be done."""


class Source(Protocol):
    """Pairs, in their order."""

    @property
    def stems(self) -> list[str]:
        """Of the pairs, as far as they are known before reading."""

    @property
    def count(self) -> int | None:
        """How many pairs; None: not known."""

    def files(self) -> list[Path]:
        """Return every file that is read.

        Raises:
            MissingFileError: one does not exist.
        """

    def announce(self) -> str | None:
        """Say what is taken for pairs, where there are several."""

    def check(self, predictor: StereoPredictor) -> None:
        """Look at headers; refuse what can be seen there.

        Raises:
            UsageError: something cannot be predicted.
        """

    def items(self, predictor: StereoPredictor, wanted: Wanted) -> Iterator[Item]:
        """Yield the pairs that are wanted."""


def with_doubt(name: str, ready: Ready) -> Ready:
    """Return a pair with a warning more where its views are one image, or swapped.

    Args:
        name: what to call the pair.
        ready: with a batch axis of 1.
    """
    views = (view[0].mean(0).numpy() for view in (ready.inputs.left, ready.inputs.right))
    doubt = order_in_doubt(*(np.asarray(np.rint(255 * view), np.uint8) for view in views))
    if doubt is None:
        return ready
    return replace(ready, warnings=(*ready.warnings, f"{name}: {doubt} (crosspol doctor tells more)"))


def with_doubt_of_first(items: Iterable[Item]) -> Iterator[Item]:
    """Yield pairs as they are, but with `with_doubt` the first that can be read: of one order are all."""
    looked = False

    def load(item: Item) -> Ready:
        nonlocal looked
        ready = item.load()
        if looked:
            return ready
        looked = True
        return with_doubt(item.name, ready)

    for item in items:
        yield replace(item, load=partial(load, item))


def find_source(arguments: Arguments) -> Source:
    """Find what the arguments name.

    Raises:
        UsageError: they name nothing, or contradict each other.
    """
    _check(arguments)
    known = Known.read(arguments)
    if _is_video(arguments.left) or (arguments.right is not None and _is_video(arguments.right)):
        return _videos(arguments, known)
    if arguments.side_by_side:
        pairs = [Pair(path, path, None, None, stem) for path, stem in list_images(arguments.left)]
        return FilePairs(pairs, arguments, known)
    assert arguments.right is not None
    if arguments.rig is None:
        polarization = arguments.polarization_left, arguments.polarization_right
        pairs = find_pairs(arguments.left, arguments.right, *polarization)
        raw = next((pair.left for pair in pairs if pair.left.suffix.lower() in RAW_SUFFIXES), None)
        if raw is not None:
            raise refuse(raw, "a raw frame", "--rig beside it, which describes the camera (crosspol rig init rig.yaml)")
        return FilePairs(pairs, arguments, known)
    if _SEVERAL_FILES.search(arguments.left + arguments.right):
        # The files of one frame, which `RigReader` finds.
        stem = _SEVERAL_FILES.sub("_", Path(arguments.left).stem).strip("_") or "left"
        pairs = [Pair(Path(arguments.left), Path(arguments.right), None, None, stem)]
    else:
        pairs = find_pairs(arguments.left, arguments.right, suffixes=(*IMAGE_SUFFIXES, ".exr", *RAW_SUFFIXES))
    return RigPairs(pairs, RigReader(arguments.rig), arguments)


def _check(arguments: Arguments) -> None:
    if arguments.right is None and not arguments.side_by_side:
        raise UsageError("missing RIGHT, the right view (or --side-by-side, where LEFT holds both)")
    if arguments.right is not None and arguments.side_by_side:
        raise refuse("--side-by-side", f"{arguments.right} for the right view", "LEFT alone, which holds both")
    polarization = {
        "--polarization-left": arguments.polarization_left,
        "--polarization-right": arguments.polarization_right,
    }
    for flag, path in polarization.items():
        if path is not None and arguments.rig is not None:
            raise UsageError(f"{flag}: got {path} beside --rig, wanted one or the other: a rig has its own")
        if path is not None and arguments.side_by_side:
            raise UsageError(f"{flag}: got {path} beside --side-by-side, wanted one file for each view")
    if arguments.rig is not None and arguments.side_by_side:
        raise refuse("--side-by-side", "--rig beside it", "one file for each camera of a rig")
    if arguments.keep_polarization and arguments.rig is None and not any(polarization.values()):
        raise refuse("--save-polarization", "no polarization", "--rig, or --polarization-left")


def _is_video(argument: str) -> bool:
    return Path(argument).suffix.lower() in VIDEO_SUFFIXES


def _videos(arguments: Arguments, known: Known) -> VideoPairs:
    paths = [path for path in (arguments.left, arguments.right) if path is not None]
    for path in paths:
        if not _is_video(path):
            raise refuse(path, "a path that is no video's", "a video, as the other view is")
    given = {
        "--rig": arguments.rig,
        "--polarization-left": arguments.polarization_left,
        "--polarization-right": arguments.polarization_right,
    }
    for flag, value in given.items():
        if value is not None:
            raise refuse(
                flag, f"{value} beside a video", "files of single frames: videos round what polarization is in"
            )
    return VideoPairs(Path(paths[0]), None if arguments.side_by_side else Path(paths[1]), known)


class FilePairs:
    """Images as viewers show them, with polarization maps or without."""

    def __init__(self, pairs: list[Pair], arguments: Arguments, known: Known) -> None:
        self.pairs, self.arguments, self.known = pairs, arguments, known

    @property
    def stems(self) -> list[str]:
        """Of the pairs."""
        return [pair.stem for pair in self.pairs]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.pairs)

    def files(self) -> list[Path]:
        """Return every file that is read."""
        return [*(path for pair in self.pairs for path in pair.files()), *self.known.files()]

    def announce(self) -> str | None:
        """Say which views are taken for pairs: all of them where their names do not agree."""
        if len(self.pairs) == 1:
            return None
        first = self.pairs[0]
        if self.arguments.side_by_side:
            return f"{len(self.pairs)} pairs: both views in {first.left}, ..."
        if first.apart is None:
            return f"{len(self.pairs)} pairs: {first.left} with {first.right}, ..."
        lines = [f"  {pair.left} with {pair.right}, {float(pair.apart or 0):g} apart" for pair in self.pairs]
        return "\n".join([f"{len(self.pairs)} pairs, by the nearest number in the names:", *lines])

    def check(self, predictor: StereoPredictor) -> None:
        """Look at the sizes of all images, and at whether the network has a use for polarization."""
        if len(self.pairs) == 1:
            return  # read, and then refused or predicted, before anything is written
        maps = self.arguments.polarization_left or self.arguments.polarization_right
        if maps is not None and predictor.config.fusion.kind == "none":
            raise UsageError(f"{maps}: got polarization, but these weights do not use polarization (fusion: none)")
        for pair in self.pairs:
            self._check_sizes(pair)

    def _check_sizes(self, pair: Pair) -> None:
        height, width = _view_size(read_image_size(pair.left), pair.left, self.arguments.side_by_side)
        for path in pair.files():
            size = _view_size(read_image_size(path), path, self.arguments.side_by_side)
            if min(size) < MINIMUM_SIDE:
                wanted = f"at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px"
                raise refuse(path, f"{size[1]}x{size[0]} px", wanted)
            if size != (height, width):
                raise refuse(path, f"{size[1]}x{size[0]} px", f"{width}x{height} px as in {pair.left}")
        self.known.check((height, width))

    def items(self, predictor: StereoPredictor, wanted: Wanted) -> Iterator[Item]:
        """Yield the pairs that are wanted."""
        for pair in self.pairs:
            if wanted(pair.stem, pair.files()):
                yield Item(_name(pair), pair.stem, pair.files(), lambda pair=pair: self._load(pair, predictor))  # type: ignore[misc]

    def _load(self, pair: Pair, predictor: StereoPredictor) -> Ready:
        views: tuple[Any, Any] = (pair.left, pair.right)
        if self.arguments.side_by_side:
            views = _halves(read_image(pair.left), pair.left)
        inputs, _ = predictor.read(
            *views, polarization_left=pair.polarization_left, polarization_right=pair.polarization_right
        )
        self.known.check(inputs.size)
        for side, path in (("left", pair.polarization_left), ("right", pair.polarization_right)):
            if path is not None and not getattr(inputs, f"valid_{side}").any():
                raise UsageError(f"{path}: got only NaN, wanted DoLP or contrast somewhere")
        for path, view in ((pair.left, inputs.left), (pair.right, inputs.right)):
            if looks_like_mosaic(np.moveaxis(view[0].numpy(), 0, -1)):
                raise UsageError(
                    f"{path}: got an image full of 2x2 structure, as raw frames of polarization and color sensors are; "
                    "describe the camera with --rig (crosspol rig init), for an ordinary image after all with kind: "
                    "none"
                )
        maps = PolarizationMaps.of_inputs(inputs) if self.arguments.keep_polarization else None
        return Ready(inputs, self.known.calibration, maps, self.known.warnings)


class RigPairs(FilePairs):
    """What the cameras of a rig wrote."""

    def __init__(self, pairs: list[Pair], reader: RigReader, arguments: Arguments) -> None:
        super().__init__(pairs, arguments, Known())
        self.reader = reader

    def files(self) -> list[Path]:
        """Return every file that is read, the rig's own included."""
        frames = [path for pair in self.pairs for path in self.reader.files(pair.left, pair.right)]
        own = [self.arguments.rig, self.reader.rig.calibration_path]
        return [*frames, *(path for path in own if path is not None)]

    def check(self, predictor: StereoPredictor) -> None:
        """Look at the headers of all frames, and at whether the network has a use for the rig."""
        predictor.check_rig(self.reader.rig.kind)
        if self.arguments.keep_polarization and self.reader.rig.kind not in ("quad", "quad-left"):
            raise refuse(
                "--save-polarization",
                f"a rig of kind {self.reader.rig.kind}",
                "quad or quad-left, whose left camera measures DoLP and AoLP",
            )
        for pair in self.pairs:
            self.reader.check(pair.left, pair.right)

    def items(self, predictor: StereoPredictor, wanted: Wanted) -> Iterator[Item]:
        """Yield the pairs that are wanted."""
        for pair in self.pairs:
            files = tuple(self.reader.files(pair.left, pair.right))
            if wanted(pair.stem, files):
                yield Item(_name(pair), pair.stem, files, lambda pair=pair: self._load(pair, predictor))  # type: ignore[misc]

    def _load(self, pair: Pair, predictor: StereoPredictor) -> Ready:
        frames = self.reader.read(pair.left, pair.right)
        kind = self.reader.rig.kind
        inputs = StereoInputs.from_frames(frames.left, frames.right, kind, predictor.config.polarization.channels)
        unused = predictor.config.why_no_contrast(predictor.iters) if kind == "crossed" else None
        warnings = (*frames.warnings, *([f"polarization is not used: {unused}"] if unused else []))
        maps = PolarizationMaps.of_frame(frames.left) if self.arguments.keep_polarization else None
        return Ready(inputs.batched(), frames.calibration, maps, warnings)


class VideoPairs:
    """Two videos, or one with both views side by side; a result's stem is the left video's with the frame's number."""

    def __init__(self, left: Path, right: Path | None, known: Known) -> None:
        self.left, self.right, self.known = left, right, known
        with Video(left) as video:
            self.count: int | None = video.count
            self.fps = video.fps

    @property
    def stems(self) -> list[str]:
        """Of as many frames as the header says."""
        return [self._stem(index) for index in range(self.count or 1)]

    def _stem(self, index: int) -> str:
        return f"{self.left.stem}_{index + 1:0{_DIGITS}d}"

    def files(self) -> list[Path]:
        """Return the videos, and the calibration."""
        return [*self._videos(), *self.known.files()]

    def _videos(self) -> list[Path]:
        return [path for path in (self.left, self.right) if path is not None]

    def announce(self) -> str | None:
        """Say what is taken for pairs."""
        frames = "frames" if self.count is None else f"{self.count} pairs"
        if self.right is None:
            return f"{frames}: both views in {self.left}, frame by frame"
        return f"{frames}: {self.left} with {self.right}, frame by frame"

    def check(self, predictor: StereoPredictor) -> None:
        """Compare the sizes and lengths that the headers say."""
        with Video(self.left) as left:
            height, width = _view_size((left.height, left.width), self.left, self.right is None)
            if min(height, width) < MINIMUM_SIDE:
                raise refuse(self.left, f"{width}x{height} px", f"at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
            self.known.check((height, width))
            if self.right is None:
                return
            with Video(self.right) as right:
                if (right.width, right.height) != (width, height):
                    raise refuse(
                        self.right, f"{right.width}x{right.height} px", f"{width}x{height} px as in {self.left}"
                    )
                if left.count is not None and right.count is not None and left.count != right.count:
                    raise refuse(self.right, f"{right.count} frames", f"{left.count} as in {self.left}")

    def items(self, predictor: StereoPredictor, wanted: Wanted) -> Iterator[Item]:
        """Yield the frames that are wanted.

        Raises:
            UsageError: one video ends before the other or before its header says, or their times part: where a frame
                is missing or broken, all that follow would be pairs of different moments.
        """
        files = tuple(self._videos())
        videos = [Video(path) for path in files]
        try:
            index = 0
            while True:
                stem = self._stem(index)
                if wanted(stem, files):
                    frames = [video.read() for video in videos]
                    ended = [frame is None for frame in frames]
                else:
                    frames, ended = [], [not video.skip() for video in videos]
                if any(ended):
                    _check_end(videos, ended, index)
                    return
                _check_times(videos, index)
                if frames:
                    name = f"{' with '.join(map(str, files))}, frame {index + 1}"
                    yield Item(name, stem, files, _Frames(frames, self.left, predictor, self.known))
                index += 1
        finally:
            for video in videos:
                video.close()


@dataclass(frozen=True, eq=False)
class _Frames:
    """Loads decoded frames."""

    frames: list[NDArray[np.uint8] | None]
    path: Path
    predictor: StereoPredictor
    known: Known

    def __call__(self) -> Ready:
        views = [frame for frame in self.frames if frame is not None]
        left, right = _halves(views[0], self.path) if len(views) == 1 else views
        return Ready(self.predictor.read(left, right)[0], self.known.calibration, warnings=self.known.warnings)


def _check_end(videos: list[Video], ended: list[bool], index: int) -> None:
    """Refuse videos that do not end together, or not where they say."""
    if not all(ended):
        short, long = (videos[0], videos[1]) if ended[0] else (videos[1], videos[0])
        raise refuse(long.path, f"more than {index} frames", f"{index} as in {short.path}, which ends there")
    for video in videos:
        if video.count is not None and video.count > index:
            raise UsageError(
                f"{video.path}: got {index} frames, wanted {video.count} as its header says: it is cut off, or frames "
                "in it are broken, and then pairs after the first of them may be of different moments"
            )


def _check_times(videos: list[Video], index: int) -> None:
    """Refuse frames whose times part by more than half a frame: one video lacks a frame that the other has."""
    if len(videos) < 2:
        return
    (left, right), fps = (video.time for video in videos), videos[0].fps
    if left is None or right is None or fps is None or abs(left - right) <= 0.5 / fps:
        return
    late, early = (videos[0], videos[1]) if left > right else (videos[1], videos[0])
    raise refuse(
        late.path,
        f"frame {index + 1} at {max(left, right):.3f} s",
        f"it at {min(left, right):.3f} s as in {early.path}: a frame before it is missing or broken",
    )


def _name(pair: Pair) -> str:
    return str(pair.left) if pair.right == pair.left else f"{pair.left} with {pair.right}"


def _view_size(size: tuple[int, int], path: Path, side_by_side: bool) -> tuple[int, int]:
    """Height and width of a view in a picture of this size."""
    if not side_by_side:
        return size
    if size[1] % 2:
        raise refuse(path, f"{size[1]} columns", "an even number: two views side by side")
    return size[0], size[1] // 2


def _halves(image: NDArray[Any], path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    if image.ndim < 2:
        raise refuse(path, f"an array of shape {image.shape}", "an image")
    width = _view_size((image.shape[0], image.shape[1]), path, True)[1]
    return image[:, :width], image[:, width:]
