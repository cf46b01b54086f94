"""Rows of results, per scene: measured here, read from a file of an earlier evaluation, averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosspol import metrics
from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.data.substitution import ORACLE, SUBSTITUTIONS, substitute, why_not
from crosspol.errors import UsageError, words_of
from crosspol.evaluation.attention import attention_figures
from crosspol.evaluation.confidence import OCCLUDED_F, SceneConfidence, worth
from crosspol.evaluation.measures import key, measure
from crosspol.evaluation.methods import Method, NetworkMethod
from crosspol.evaluation.scenes import SceneSet, Survey
from crosspol.model.precision import without_tf32

INJECTED = "injected"
"""Measure: |injected| / |stereo features|, mean over the pixels of a region."""
GLASS_IOU, GLASS_F = "iou", "f_score"
"""Measures of the glass that a network finds."""


@dataclass(frozen=True)
class Row:
    """One row: what was measured, and its values scene by scene.

    name: of the row. of: name of the row that a counterfactual belongs to, else its own. about: what it is.
    substitution: what stood in polarization's place; None: what was recorded.
    values: by ``measure.region``, one a scene; NaN = the scene has none.
    not_applicable: why there are no values. confidence: its worth over all scenes, see `worth`; None: nobody asked.
    """

    name: str
    of: str
    about: dict[str, Any]
    values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    substitution: str | None = None
    not_applicable: str | None = None
    confidence: dict[str, Any] | None = None

    @property
    def is_network(self) -> bool:
        """Whether a network made it, and not a baseline."""
        return "config" in self.about

    @property
    def is_counterfactual(self) -> bool:
        """Whether it is another row's network with other polarization."""
        return self.of != self.name

    def get(self, name: str) -> tuple[float, ...]:
        """Return values; NaN throughout where nothing was measured."""
        count = len(next(iter(self.values.values()), ()))
        return self.values.get(name, (math.nan,) * count)


class Observation(NamedTuple):
    """What was just predicted of a scene, for whoever wants to look at it.

    row: name of the row. scene: its place among the scenes. batch: the scene as it was recorded, B = 1. disparity:
    (1, 1, H, W), px.
    """

    row: str
    scene: int
    batch: StereoBatch
    disparity: Tensor


def counterfactuals(method: NetworkMethod, names: Iterable[str]) -> list[NetworkMethod]:
    """Return a network's rows with other polarization."""
    return [
        NetworkMethod(
            f"{method.name}: {SUBSTITUTIONS[name].title}", method.net, method.iters, method.about, name, method.of
        )
        for name in names
    ]


def reason_against(method: Method, scenes: SceneSet, survey: Survey) -> str | None:
    """Say why a row has no meaning on these scenes; None: it has one."""
    if not isinstance(method, NetworkMethod) or method.substitution is None:
        return None
    if not method.polarized:
        return "the network does not use polarization"
    if method.substitution == ORACLE:
        return None
    reason = why_not(method.substitution, scenes.description["rig"], method.pol_channels)
    if reason is None and scenes.description["rig"] == "crossed":
        reason = method.net.config.why_no_contrast(method.iters)
    if reason is None and SUBSTITUTIONS[method.substitution].needs_donor:
        alone = [scene.name for index, scene in enumerate(survey.scenes) if survey.donor(index) is None]
        reason = f"no other scene has the size and the rig of {alone[0]}" if alone else None
    return reason


def try_out(methods: Sequence[Method], scenes: SceneSet, device: torch.device) -> None:
    """Run every network once on the first scene, with one iteration.

    Raises:
        UsageError: one of them does not use what the rig records.
    """
    for method in methods:
        if isinstance(method, NetworkMethod):
            samples = scenes.open(method.pol_channels)
            batch = stack([samples[0]]).to(device)
            quick = NetworkMethod(method.name, method.net, 1, substitution=method.substitution)
            try:
                with torch.inference_mode(), without_tf32():
                    if method.substitution == ORACLE:
                        batch = substitute(batch, ORACLE, pol_channels=method.pol_channels)
                    quick(batch)
            except ValueError as error:
                raise UsageError(f"{method.name}: {words_of(error)}") from error


def measure_rows(
    methods: Sequence[Method],
    scenes: SceneSet,
    survey: Survey,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    watch: Callable[[range], Iterable[int]] = iter,
    look: Callable[[Observation], None] | None = None,
) -> list[Row]:
    """Measure every method on every scene, in float32 without TF32, one scene at a time.

    Args:
        methods: the rows.
        scenes: what to measure on.
        survey: of these scenes.
        seed: of what the substitutions draw.
        device: where the networks are.
        watch: goes through the scenes, such as tqdm.
        look: is shown every prediction.

    Returns:
        A row a method, in their order.
    """
    reasons = [reason_against(method, scenes, survey) for method in methods]
    # Whoever looks at no maps reads them as the others do: a table may have no others.
    any_channels = next((method.pol_channels for method in methods if method.pol_channels is not None), 1)
    channels = [method.pol_channels or any_channels for method in methods]
    opened = {number: scenes.open(number) for number in channels}
    values: list[list[dict[str, float]]] = [[] for _ in methods]
    judged: list[list[SceneConfidence]] = [[] for _ in methods]
    source = _Source(opened, survey, device)
    with torch.inference_mode(), without_tf32():
        for index in watch(range(len(survey.scenes))):
            for method, maps, reason, found, scenes_of in zip(methods, channels, reasons, values, judged, strict=True):
                if reason is None:
                    numbers, scene = _measure(method, source, index, maps, seed, look)
                    found.append(numbers)
                    scenes_of += [] if scene is None else [scene]
    return [
        Row(method.name, method.of, method.about, _columns(found), method.substitution, reason, worth(scenes_of))
        for method, reason, found, scenes_of in zip(methods, reasons, values, judged, strict=True)
    ]


def averaged(rows: Sequence[Row], name: str, of: str) -> Row:
    """Return the row of a variant: its seeds' values, averaged scene by scene.

    Args:
        rows: of the same scenes, one a seed.
        name, of: of the new row.
    """
    first = rows[0]
    if first.not_applicable is not None:
        return Row(name, of, first.about, {}, first.substitution, first.not_applicable)
    shared = [column for column in first.values if all(column in row.values for row in rows)]
    values = {column: tuple(np.mean([row.values[column] for row in rows], axis=0).tolist()) for column in shared}
    return Row(name, of, first.about, values, first.substitution)


class _Source:
    """Scenes as batches of one, each read once for the rows that share it."""

    def __init__(self, opened: Mapping[int, Dataset[StereoSample]], survey: Survey, device: torch.device | str) -> None:
        self.survey = survey
        # This scene and the one that lends its polarization, which most often is the next.
        self.get = lru_cache(maxsize=2 * len(opened))(
            lambda channels, index: stack([opened[channels][index]]).to(device)
        )

    def donor(self, channels: int, index: int) -> StereoBatch:
        other = self.survey.donor(index)
        assert other is not None  # `reason_against` asked
        return self.get(channels, other)


def _measure(
    method: Method,
    source: _Source,
    index: int,
    channels: int,
    seed: int,
    look: Callable[[Observation], None] | None,
) -> tuple[dict[str, float], SceneConfidence | None]:
    """Return the figures of a scene, and what its confidence is worth where there is one."""
    recorded = source.get(channels, index)
    batch = recorded
    if method.substitution is not None:
        lends = method.substitution != ORACLE and SUBSTITUTIONS[method.substitution].needs_donor
        donor = source.donor(channels, index) if lends else None
        batch = substitute(recorded, method.substitution, seed=seed, donor=donor, pol_channels=channels)
    predicted = method(batch)
    if look is not None:
        look(Observation(method.name, index, recorded, predicted.disparity))
    found = measure(predicted.disparity, recorded)
    parts = {"glass": recorded.glass, "background": 1 - recorded.glass}
    polarized = isinstance(method, NetworkMethod) and method.polarized and batch.rig != "none"
    if predicted.use is not None and polarized:
        for where, mask in parts.items():
            found[key(INJECTED, where)] = metrics.mean_under(predicted.use, mask).item()
    if predicted.glass is not None:
        found[key(GLASS_IOU, "glass")] = metrics.iou(predicted.glass, recorded.glass).item()
        found[key(GLASS_F, "glass")] = metrics.f_score(predicted.glass, recorded.glass).item()
    if isinstance(method, NetworkMethod) and method.name == method.of and polarized:
        found |= attention_figures(method.net, batch)
    if predicted.confidence is None or predicted.occluded is None:
        return found, None
    scene = SceneConfidence.of(predicted.disparity, predicted.confidence, recorded)
    found[key(OCCLUDED_F, "all")] = metrics.f_score(predicted.occluded, recorded.occluded, recorded.valid).item()
    return found | scene.figures(), scene


def _columns(scenes: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    names = {name: None for scene in scenes for name in scene}
    return {name: tuple(scene.get(name, math.nan) for scene in scenes) for name in names}
