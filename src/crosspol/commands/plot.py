"""`crosspol plot`: curves of training runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.errors import UsageError
from crosspol.io.atomic import write_bytes
from crosspol.training.run_log import read_runs
from crosspol.visualization.curves import draw_curves


@dataclass(frozen=True)
class PlotOptions:
    """Draw the curves of one or several training runs.

    Loss, errors, learning rates, alpha and its cap, gradient norms and the injected share on glass and elsewhere:
        crosspol plot runs/a
        crosspol plot runs/a runs/b --output compared.png
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="")]
    """Folders of training runs."""
    output: Annotated[Path, arg(metavar="FILE")] = Path("curves.png")
    """Image to write, .png."""


def plot(options: PlotOptions) -> None:
    """Draw the image and print its path.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    if not options.runs:
        raise UsageError("RUN: got none, wanted the folder of a training run")
    if options.output.suffix.lower() != ".png":
        raise UsageError(f"--output: got {options.output}, wanted a file that ends in .png")
    check_output_folder(options.output.parent)
    image = draw_curves(read_runs(options.runs))
    make_output_folder(options.output.parent)
    write_bytes(options.output, image)
    print(options.output)
