"""Whether a run may go on with what is wanted now, and what is not as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosspol.errors import UsageError
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import differences, merge


def changed_settings(config: TrainConfig, state: Mapping[str, Any]) -> list[str]:
    """Name the settings that decide the result and are not those of a checkpoint, one line each."""
    try:
        return differences(merge(TrainConfig(), state["config"]), config)
    except ValueError as error:
        return [str(error)]


def changed_contents(contents: Mapping[str, str], state: Mapping[str, Any]) -> list[str]:
    """Name the data sets that no longer hold what a checkpoint was made with, one line each.

    Those that it does not know are left out: older checkpoints name none.
    """
    before = state.get("contents", {})
    return [
        f"{key}: {before[key]} before, {contents[key]} now"
        for key in contents
        if before.get(key, contents[key]) != contents[key]
    ]


def refuse_changes(changed: list[str], output: Path) -> None:
    """Refuse to go on with a run in `output` of which something was changed.

    Raises:
        UsageError: it names all changes.
    """
    if changed:
        raise UsageError(
            f"{output}: the run there was started otherwise ({'; '.join(changed)}); --allow-changes goes on with what "
            "is wanted now, another --output starts anew"
        )
