"""`crosspol train`: train a network, or resume a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, get_args

from tyro.conf import arg

from crosspol.commands.flags import configuration_rules
from crosspol.commands.folders import check_output_folder
from crosspol.errors import UsageError, words_of
from crosspol.training.config import TrainConfig, TrainPreset, train_preset
from crosspol.training.config_file import read_config

BLUEPRINT = (
    "feature_dim", "hidden_dim", "context_dim", "pol_dim", "pol_threshold", "num_heads", "pool_size",
    "enable_stereo_to_pol",
)  # fmt: skip
"""Hyperparameters of the blueprint's section 6 that are nested here: flags under their own names as well."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a network, or resume a run that was stopped.

    Re-running the same command resumes the run; SIGTERM and Ctrl-C write a checkpoint and leave:
        crosspol train --output runs/a --preset cpu-small
        crosspol train --output runs/b --config runs/a/config.json --lr 1e-4
        crosspol train --output runs/c --pretrained raftstereo-sceneflow.pth --machine.devices 8

    Settings count in this order: flags, --config, --preset. Flags have the names of the settings in a configuration
    file; sizes are WxH here and [height, width] there. torchrun and SLURM (srun) start the processes themselves.
    """

    output: Annotated[Path, arg(metavar="DIR")]
    """Folder of the run; made if needed."""
    config: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Settings from a .json or .yaml file, such as the config.json of another run."""
    preset: TrainPreset = "blueprint"
    """blueprint: its section 6, for GPUs; crosspol-cpu: every rig, a night on one core; cpu-small: hours on two cores;
    cpu-tiny: minutes."""
    allow_changes: bool = False
    """Resume even if the settings have changed."""
    training: Annotated[TrainConfig, arg(name="")] = field(default_factory=TrainConfig)

    @classmethod
    def parse(cls, prog: str, args: Sequence[str]) -> TrainOptions:
        """Read arguments: the file or preset that they name gives the defaults of all others.

        Raises:
            UsageError: the file or a value in it cannot be used.
            SystemExit: help was asked for, or a flag is wrong (tyro printed why).
        """
        import tyro

        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        first.add_argument("--config", type=Path)
        first.add_argument("--preset", choices=get_args(TrainPreset), default="blueprint")
        try:
            given, _ = first.parse_known_args(list(args))
        except argparse.ArgumentError:
            # tyro finds the same mistake, and explains it in the words of all other flags.
            given = argparse.Namespace(config=None, preset="blueprint")
        defaults = train_preset(given.preset)
        if given.config is not None:
            defaults = read_config(given.config, defaults)
        options = cls(output=tyro.MISSING, config=given.config, preset=given.preset, training=defaults)
        try:
            return tyro.cli(cls, prog=prog, args=args, default=options, registry=configuration_rules(BLUEPRINT))
        except ValueError as error:
            raise UsageError(words_of(error)) from error


def train(options: TrainOptions) -> None:
    """Train until the last step.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
        SystemExit: the run failed (1), or was stopped by a signal after writing a checkpoint (130, 143).
    """
    # Fabric takes seconds to import; help and wrong requests do not need it.
    from crosspol.training.failures import Interrupted, TrainingError
    from crosspol.training.loop import train as run

    check_output_folder(options.output)
    try:
        run(options.training, options.output, allow_changes=options.allow_changes)
    except TrainingError as error:
        raise SystemExit(f"crosspol train: failed: {error}") from error
    except Interrupted as stop:
        raise SystemExit(stop.status) from stop
