"""Loads official RAFT-Stereo checkpoints and reports which tensors were used.

The network's own weights travel by `CrossPol.save_pretrained` and `load_network`, as safetensors.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from crosspol.errors import MissingFileError, UsageError, did_you_mean
from crosspol.io.reading import check_decoded
from crosspol.io.structured import read_json
from crosspol.model import CrossPol, CrossPolConfig
from crosspol.model.config import PRESETS
from crosspol.model.official import OfficialNames, Role
from crosspol.model.shipped import WEIGHTS_FILE, packaged_weights, weights_folder

PretrainedParts = Literal["all", "trunk"]

# Under which names training code keeps a state dict among other things, and what wrappers put in front of its names.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
_PREFIXES = ("_orig_mod.", "module.", "model.")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# How torch names what it does not unpickle.
_FOREIGN = re.compile(r"GLOBAL ([\w.]+) was not an allowed")
_LONGEST_CAUSE = 200

RAFT_STEREO_ORIGIN = "https://github.com/princeton-vl/RAFT-Stereo (download_models.sh)"


class WeightsError(UsageError):
    """A weight file that cannot be used: one line that names it, what was found and what was wanted."""


class Mismatch(NamedTuple):
    """A tensor whose role both networks have, in different shapes."""

    source: str
    source_shape: tuple[int, ...]
    target: str
    target_shape: tuple[int, ...]
    """Shape that would fit; of a target put together from two of the file's, the shape of one."""


@dataclass(frozen=True)
class LoadReport:
    """What a checkpoint gave to a network. Names are the network's, except where they are said to be the file's."""

    loaded: tuple[str, ...]
    """Tensors now holding the file's values."""
    missing: tuple[str, ...]
    """Tensors that the file has nothing for (mismatches among them); they keep their values."""
    unexpected: tuple[str, ...]
    """Tensors of the file whose role the network does not have."""
    mismatched: tuple[Mismatch, ...] = ()
    """Same role, other shape; never loaded."""
    unused: tuple[str, ...] = ()
    """Tensors of the file that its own network never reads."""
    taken: int = 0
    """How many of the file's tensors were used (some of the network's are put together from two)."""
    total: int = 0
    """How many tensors the file has."""

    def __str__(self) -> str:
        """Return the report tensor by tensor, after a line that sums it up."""
        lines = [
            f"{self.taken} of {self.total} tensors of the file used; "
            f"{len(self.missing)} of the network's keep their values"
        ]
        lines += [f"  loaded      {name}" for name in self.loaded]
        lines += [
            f"  other shape {m.target} {list(m.target_shape)}, in the file {m.source} {list(m.source_shape)}"
            for m in self.mismatched
        ]
        differing = {m.target for m in self.mismatched}
        lines += [f"  kept        {name}" for name in self.missing if name not in differing]
        lines += [f"  no role     {name} (in the file)" for name in self.unexpected]
        lines += [f"  unused      {name} (in the file; its own network never reads it)" for name in self.unused]
        return "\n".join(lines)


def load_raft_stereo(net: CrossPol, path: str | Path) -> LoadReport:
    """Load an official ``raftstereo-*.pth`` into a network.

    The presets ``raft-stereo`` and ``raft-stereo-realtime`` take every tensor or raise; their polarization layers keep
    their values. The preset ``blueprint`` takes what matches by role and shape; everything else keeps its values and
    is named in the report.

    Args:
        net: the network; unchanged if an error is raised.
        path: a checkpoint as the authors publish it (a state dict), or the same as safetensors. It may lie inside a
            dictionary under ``state_dict``, ``model_state_dict``, ``model`` or ``network``, and its names may begin
            with ``module.``, ``model.`` or ``_orig_mod.``, several times over.

    Raises:
        WeightsError: the file is no checkpoint, or not this network's.
        MissingFileError: there is no such file.
    """
    path = Path(path)
    names = net.config.record.official
    if names is None:
        raise WeightsError(f"{path}: RAFT-Stereo's weights do not fit the backbone {net.config.backbone}")
    matching = _match(_raft_stereo_tensors(path), net.state_dict(), names)
    if names.strict:
        _require_all(path, net.config.backbone, matching.report)
    net.load_state_dict(matching.values, strict=False)
    return matching.report


class Matching(NamedTuple):
    """What an official state dict holds for a network: values by the network's names, and the report."""

    values: dict[str, Tensor]
    report: LoadReport


def _raft_stereo_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an official checkpoint, under the names that its authors' code gives them.

    Raises:
        WeightsError: the file is none.
        MissingFileError: there is no such file.
    """
    source: dict[str, Tensor] = {}
    for stored, tensor in read_checkpoint(path).items():
        name = _without_wrappers(stored)
        if name in source:
            raise WeightsError(f"{path}: got {name} twice, with and without a wrapper's prefix, wanted it once")
        source[name] = tensor
    # Every RAFT-Stereo has these heads; RAFT for optical flow shares most other names, not these.
    if not any(name.startswith("cnet.outputs08.") for name in source):
        some = ", ".join(_printable(name) for name in list(source)[:3])
        raise WeightsError(f"{path}: got a state dict of another network ({some}, ...), wanted RAFT-Stereo's")
    return source


def _without_wrappers(name: str) -> str:
    """Take off what torch.compile, DataParallel (once or twice) and training code put in front of a tensor's name."""
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _match(source: Mapping[str, Tensor], target: Mapping[str, Tensor], names: OfficialNames) -> Matching:
    """Find what an official state dict holds for the network's."""
    unused = tuple(name for name in source if names.unused is not None and names.unused.match(name))
    pieces: dict[str, list[tuple[Role, str]]] = {}
    unexpected = []
    # Of a tensor stored twice (norm3, downsample.1) downsample.1 counts, as it does for the official network: it
    # goes last, whatever the order in the file (safetensors sorts by name).
    for name in sorted(source, key=lambda name: ".downsample." in name):
        role = names.role(name)
        if role.target in target:
            pieces.setdefault(role.target, []).append((role, name))
        elif name not in unused:
            unexpected.append(name)

    values: dict[str, Tensor] = {}
    mismatched: list[Mismatch] = []
    for name, found in pieces.items():
        value, differing = _assemble(name, found, source, target[name])
        mismatched += differing
        if value is not None:
            values[name] = value
    # A bias without its weight means nothing: a layer is taken whole or not at all.
    broken = {_layer(name) for name in target if name not in values}
    loaded = {name: value for name, value in values.items() if _layer(name) not in broken}
    report = LoadReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in target if name not in loaded),
        unexpected=tuple(unexpected),
        mismatched=tuple(mismatched),
        unused=unused,
        taken=sum(len(pieces[name]) for name in loaded),
        total=len(source),
    )
    return Matching(loaded, report)


def _assemble(
    name: str, found: list[tuple[Role, str]], source: Mapping[str, Tensor], like: Tensor
) -> tuple[Tensor | None, list[Mismatch]]:
    """Put a tensor of the network together from its pieces in the file; None where they do not make it whole."""
    parts, shape = found[0][0].parts, tuple(like.shape)
    shape = shape if parts == 1 else (shape[0] // parts, *shape[1:])
    differing = [piece for _, piece in found if tuple(source[piece].shape) != shape]
    mismatched = [Mismatch(piece, tuple(source[piece].shape), name, shape) for piece in differing]
    by_part = {role.part: source[piece] for role, piece in found}
    if differing or len(by_part) != parts:
        return None, mismatched
    value = by_part[0] if parts == 1 else torch.cat([by_part[part] for part in range(parts)])
    return value.to(like.dtype), mismatched


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _require_all(path: Path, backbone: str, report: LoadReport) -> None:
    """Refuse a checkpoint that is not exactly the backbone's."""
    differing = {m.target for m in report.mismatched}
    missing = [name for name in report.missing if name.startswith(("encoders.", "update.")) and name not in differing]
    problems = [f"missing {', '.join(missing)}"] if missing else []
    if report.unexpected:
        problems.append(f"unexpected {', '.join(report.unexpected)}")
    problems += [
        f"{m.source} has shape {list(m.source_shape)} for {m.target} {list(m.target_shape)}" for m in report.mismatched
    ]
    if problems:
        raise WeightsError(f"{path}: not the weights of {backbone}: {'; '.join(problems)}")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.pth`` (never executing what a pickle says) or a ``.safetensors`` file.

    Raises:
        WeightsError: the file is no checkpoint; the line says what it looks like instead.
        MissingFileError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file, wanted a RAFT-Stereo checkpoint; the authors publish them at {RAFT_STEREO_ORIGIN}"
        )
    if not path.stat().st_size:
        raise WeightsError(f"{path}: the file is empty, wanted a checkpoint")
    with path.open("rb") as file:
        head = file.read(512)
    # A letter must follow: the length that a safetensors file begins with can look like " <".
    if re.match(rb"\s*<[!?A-Za-z]", head):
        raise WeightsError(f"{path}: an HTML page (a failed download?), wanted a checkpoint from {RAFT_STEREO_ORIGIN}")
    content = _load(path)
    if isinstance(content, Mapping) and not _is_state_dict(content):
        # The optimizer, the epoch and so on lie beside it.
        content = next((content[name] for name in _WRAPPERS if _is_state_dict(content.get(name))), content)
    if not _is_state_dict(content):
        raise WeightsError(f"{path}: got {type(content).__name__}, wanted a state dict (names and tensors)")
    return dict(content)


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_decoded(path, path.stat().st_size, sum(entry.file_size for entry in archive.infolist()))
        return torch.load(path, "cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path}: truncated or not a safetensors file ({_one_line(error)})") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to, IndexError and struct.error too
        foreign = _FOREIGN.search(str(error))
        if foreign is not None and not _is_damaged(path):
            raise WeightsError(
                f"{path}: got Python objects beside the tensors ({_printable(foreign[1])}), "
                "which could run code and are not loaded; wanted names and tensors alone: save the state dict by itself"
            ) from error
        raise WeightsError(f"{path}: truncated or not a PyTorch checkpoint ({_one_line(error)})") from error


def _is_damaged(path: Path) -> bool:
    """Say whether the archive that torch writes is cut off or does not match its checksums; others tell nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError):
        return zipfile.is_zipfile(path)


def _is_state_dict(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def load_network(path_or_id: str | os.PathLike[str] | None = None) -> CrossPol:
    """Load a network saved by `CrossPol.save_pretrained`.

    Args:
        path_or_id: a folder; else the name of a preset whose weights ship with the package, or a model id of the
            Hugging Face hub; None: the weights that are taken where none are asked for.

    Raises:
        WeightsError: config.json or model.safetensors is corrupt, or they do not belong together.
        MissingFileError: there is no such folder, or a file is missing in it.
    """
    folder = weights_folder(path_or_id)
    if not folder.is_dir():
        looks_like_id = isinstance(path_or_id, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", path_or_id)
        # "runs/first" where runs/ exists is a folder misspelt; asking the hub for it could take long, and confuse.
        if not looks_like_id or folder.exists() or folder.parent.is_dir():
            shipped = [name for name in PRESETS if packaged_weights(name).is_dir()]
            wanted = f"a folder with config.json and model.safetensors, or {' or '.join(shipped)}, which ship"
            raise MissingFileError(f"{path_or_id}: wanted {wanted}{did_you_mean(str(path_or_id), shipped)}")
        folder = _download(str(path_or_id))
    config_file, weights_file = folder / "config.json", folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise MissingFileError(f"{file}: no such file, wanted a folder written by save_pretrained")
    # The same as `CrossPol.from_pretrained`, whose errors do not say which file is to blame.
    try:
        net = _of_a_size(CrossPolConfig(**read_json(config_file)), weights_file.stat().st_size)
    except Exception as error:  # whatever a network of such settings leads to
        raise WeightsError(f"{config_file}: not a CrossPol configuration ({_one_line(error)})") from error
    try:
        tensors = load_file(weights_file)
    except Exception as error:  # of a damaged header: SafetensorError, and others that its bytes lead to
        raise WeightsError(f"{weights_file}: truncated or corrupt ({_one_line(error)})") from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{folder}: config.json and model.safetensors do not fit ({_one_line(error)})") from error
    return net.eval()


def _of_a_size(config: CrossPolConfig, stored: int) -> CrossPol:
    """Return the network, where a file of `stored` bytes can hold its weights.

    Raises:
        UsageError: it cannot; nothing was allocated.
    """
    with torch.device("meta"):
        wanted = sum(tensor.nbytes for tensor in CrossPol(config).state_dict().values())
    check_decoded("the network", stored, wanted)
    return CrossPol(config)


def load_matching(net: CrossPol, path_or_id: str | Path, parts: PretrainedParts = "all") -> LoadReport:
    """Take from a network saved by `CrossPol.save_pretrained` what fits by name and shape, such as its backbone.

    Variants of a fusion start from one trunk so.

    Args:
        net: what is not taken keeps its values.
        path_or_id: as `load_network`.
        parts: ``all``, or ``trunk``: nothing of `CrossPol.POLARIZED`, even where it fits.

    Raises:
        WeightsError: as `load_network`, or the backbone is another one.
        MissingFileError: as `load_network`.
    """
    other = load_network(path_or_id)
    source, target = other.state_dict(), net.state_dict()
    left_out = CrossPol.POLARIZED if parts == "trunk" else ()
    shared = [name for name in target if name in source and name.partition(".")[0] not in left_out]
    loaded = {name: source[name] for name in shared if source[name].shape == target[name].shape}
    if other.config.backbone != net.config.backbone:
        raise WeightsError(f"{path_or_id}: got backbone {other.config.backbone}, wanted {net.config.backbone}")
    net.load_state_dict(loaded, strict=False)
    return LoadReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in target if name not in loaded),
        unexpected=tuple(name for name in source if name not in target),
        mismatched=tuple(
            Mismatch(name, tuple(source[name].shape), name, tuple(target[name].shape))
            for name in shared
            if name not in loaded
        ),
        taken=len(loaded),
        total=len(source),
    )


def _download(model_id: str) -> Path:
    """Fetch a model of the Hugging Face hub into its cache, or find it there; return the folder."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        hf_hub_download(model_id, WEIGHTS_FILE)
        return Path(hf_hub_download(model_id, "config.json")).parent
    except (HFValidationError, OSError) as error:  # every failed request is an OSError
        raise MissingFileError(
            f"{model_id}: no such folder here, and the Hugging Face hub did not give it ({_one_line(error)})"
        ) from error


def _one_line(error: BaseException) -> str:
    text = _printable(str(error)) or type(error).__name__
    return text if len(text) <= _LONGEST_CAUSE else text[: _LONGEST_CAUSE - 3] + "..."


def _printable(text: str) -> str:
    """Return a text that came from a file or another library on one line, without codes that a terminal obeys."""
    return " ".join("".join(c if c.isprintable() else " " for c in _CONTROL.sub("", text)).split())
