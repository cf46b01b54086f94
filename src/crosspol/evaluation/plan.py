"""A plan of runs to compare: what they share, what each variant changes, and the seeds.

In YAML:

    about: what is to be found out
    base:                       # settings as in a file for `crosspol train --config`
      preset: cpu-small         # of training, as `crosspol train --preset`
      network: {preset: crosspol}   # of the network, as `CrossPol.from_preset`
      num_steps: 3000
    variants:                   # names, with what each has otherwise
      polarization: {}
      twin: {network: {fusion: {kind: none}}}
    seeds: [0, 1, 2]
    twin: twin                  # the variant that the others are compared with
    oracle: oracle              # the one that was given the true glass mask, where there is one
    evaluation: {scenes: 64, iters: 8, counterfactuals: [removed, zero]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crosspol.data.substitution import SUBSTITUTIONS
from crosspol.errors import MissingFileError, UsageError, words_of
from crosspol.io.structured import read_yaml
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import configure, flat, merge

# Of a variant's data settings, what may be its own: what stands in polarization's place, and how it is written down.
# Neither changes which scenes are drawn, nor their images or truth.
_OWN_DATA = ("data.polarization", "data.pol_channels", "data.polarization_dropout")
# What decides how much a run has seen, in what order.
_SHARED = ("data.", "num_steps", "batch_size", "stages")
_OF_THE_PLAN = ("seed", "data.seed")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@dataclass(frozen=True)
class EvaluationPlan:
    """How every run is evaluated.

    scenes: at most so many of the held-out split. iters: iterations; None: as in the run's own validation.
    counterfactuals: of the runs that are trained on their own polarization.
    """

    scenes: int = 64
    iters: int | None = None
    counterfactuals: tuple[str, ...] = tuple(SUBSTITUTIONS)

    def __post_init__(self) -> None:
        for name, value in (("scenes", self.scenes), ("iters", self.iters)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}, wanted at least 1")
        for name in self.counterfactuals:
            if name not in SUBSTITUTIONS:
                raise ValueError(f"counterfactuals: got {name!r}, wanted some of {', '.join(SUBSTITUTIONS)}")
        if len(set(self.counterfactuals)) < len(self.counterfactuals):
            raise ValueError(f"counterfactuals: got {', '.join(self.counterfactuals)}, wanted each once")


@dataclass(frozen=True)
class Plan:
    """Runs to compare: every variant with every seed, on the same data in the same order for as many steps.

    variants: their settings by name; the seeds are set by `run_config`.
    """

    name: str
    variants: Mapping[str, TrainConfig]
    seeds: tuple[int, ...] = (0,)
    twin: str | None = None
    oracle: str | None = None
    about: str = ""
    evaluation: EvaluationPlan = field(default_factory=EvaluationPlan)

    @property
    def shared(self) -> TrainConfig:
        """The settings of the first variant: whatever decides the data is the same in all of them."""
        return next(iter(self.variants.values()))

    def run_config(self, variant: str, seed: int) -> TrainConfig:
        """Return the settings of one run: the seed counts for its weights and for the data that it is shown."""
        config = self.variants[variant]
        return replace(config, seed=config.seed + seed, data=replace(config.data, seed=config.data.seed + seed))


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no plan, a setting is wrong, or its variants cannot be compared; the line names the place.
    """
    try:
        content = read_yaml(path)
    except MissingFileError as error:
        raise MissingFileError(f"{error}, wanted a plan (.yaml)") from error
    try:
        return _plan(path.stem, content)
    except ValueError as error:
        raise UsageError(f"{path}: {words_of(error)}") from error


def _plan(name: str, content: Any) -> Plan:
    known = ("about", "base", "variants", "seeds", "twin", "oracle", "evaluation")
    if not isinstance(content, dict) or not isinstance(content.get("variants"), dict) or not content["variants"]:
        raise ValueError("variants: got none, wanted names with their changes")
    for entry in content:
        if entry not in known:
            raise ValueError(f"{entry}: no such setting, wanted some of {', '.join(known)}")
    base = _settings(TrainConfig(), content.get("base"), "base")
    variants = {}
    for variant, changes in content["variants"].items():
        if not isinstance(variant, str) or not _NAME.fullmatch(variant):
            raise ValueError(f"variants: got the name {variant!r}, wanted letters, digits, '.', '_' and '-'")
        variants[variant] = _settings(base, changes, f"variants.{variant}")
    _check_comparable(variants)
    seeds = content.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"seeds: got {seeds!r}, wanted a list of whole numbers from 0 up")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: got {seeds}, wanted each once")
    for role in ("twin", "oracle"):
        named = content.get(role)
        if named is not None and not (isinstance(named, str) and named in variants):
            raise ValueError(f"{role}: got {named!r}, wanted one of {', '.join(variants)}")
    evaluation = merge(EvaluationPlan(), content.get("evaluation") or {}, "evaluation.")
    about = " ".join(str(content.get("about", "")).split())
    return Plan(name, variants, tuple(seeds), content.get("twin"), content.get("oracle"), about, evaluation)


def _settings(base: TrainConfig, content: Any, place: str) -> TrainConfig:
    """Return settings with changes, as `configure` reads them.

    Raises:
        ValueError: a name or a value is wrong.
    """
    try:
        return configure(base, {} if content is None else content, place)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(f"{place}:") else f"{place}: {message}") from error


def _check_comparable(variants: Mapping[str, TrainConfig]) -> None:
    """Refuse variants that are not shown the same data in the same order, equally often.

    Raises:
        ValueError: two of them are not.
    """
    (first, base), *others = variants.items()
    wanted = flat(base)
    for name, config in others:
        for setting, value in flat(config).items():
            shared = setting.startswith(_SHARED) or setting in _OF_THE_PLAN
            if shared and setting not in _OWN_DATA and wanted.get(setting) != value:
                raise ValueError(
                    f"variants.{name}: got {setting} {value} and {first} {wanted.get(setting)}; wanted the same data, "
                    "steps and batches in every variant: else they cannot be compared"
                )
        missing = [setting for setting in wanted.keys() - flat(config).keys() if setting.startswith(_SHARED)]
        if missing:
            raise ValueError(f"variants.{name}: got no {sorted(missing)[0]}, wanted it as in {first}")
    for name, config in variants.items():
        if (config.machine.devices or 1) * (config.machine.nodes or 1) > 1:
            raise ValueError(f"variants.{name}: machine: got several devices, wanted one: a plan trains on one device")
