"""The command `crosspol`: finds the command, parses its options, runs it, and turns errors into one line and a status.

Exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from crosspol.commands.ablate import AblateOptions, ablate
from crosspol.commands.data import DataOptions, data
from crosspol.commands.demo import DemoOptions, demo
from crosspol.commands.evaluate import EvaluateOptions, evaluate
from crosspol.commands.info import InfoOptions, info
from crosspol.commands.plot import PlotOptions, plot
from crosspol.commands.predict import PredictOptions, predict
from crosspol.commands.render import RenderOptions, render
from crosspol.commands.rig import RigOptions, rig
from crosspol.commands.train import TrainOptions, train
from crosspol.errors import UsageError

# Options (a frozen dataclass whose docstring is the help) and what carries them out. A new command is a new line.
COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "demo": (DemoOptions, demo),
    "predict": (PredictOptions, predict),
    "train": (TrainOptions, train),
    "plot": (PlotOptions, plot),
    "evaluate": (EvaluateOptions, evaluate),
    "ablate": (AblateOptions, ablate),
    "render": (RenderOptions, render),
    "rig": (RigOptions, rig),
    "data": (DataOptions, data),
    "info": (InfoOptions, info),
}

_WIDE = "10000"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what follows `crosspol`; None takes the process's own.

    Returns:
        The exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted, 143 terminated. Errors
        that are not foreseen are raised.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    program = "crosspol"
    try:
        if given[:1] in (["-h"], ["--help"]):
            print(_overview())
            return 0
        if given[:1] == ["--version"]:
            print(f"crosspol {version('crosspol')}")
            return 0
        options_type, run = _find_command(given)
        program = f"crosspol {given[0]}"
        options = _parse(options_type, program, given[1:])
        # The hub's client reports every retry; the one line about what failed is ours.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        if options is not None:
            run(options)
    except UsageError as error:
        return _complain(program, str(error), 2)
    except KeyboardInterrupt:
        return _complain(program, "interrupted", 130)
    except BrokenPipeError:
        # The reader closed the pipe (`crosspol info | head`); Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError, FloatingPointError) as error:
        return _complain(program, f"failed: {str(error) or type(error).__name__}", 1)
    except RuntimeError as error:
        # torch has no type of its own for a CPU without memory.
        if not re.search("out of memory|allocate memory", str(error)):
            raise
        return _complain(program, "failed: out of memory; try smaller images or --precision bfloat16", 1)
    return 0


def _overview() -> str:
    """Return the list of commands, one line each."""
    lines = ["usage: crosspol COMMAND [OPTIONS]", "", "Depth on glass from polarized stereo cameras.", "", "commands:"]
    for name, (options_type, _) in COMMANDS.items():
        summary = (options_type.__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<9} {summary}")
    lines += ["", "crosspol COMMAND --help tells more about a command; crosspol --version, which version this is."]
    return "\n".join(lines)


def _find_command(given: list[str]) -> tuple[type[Any], Callable[[Any], None]]:
    known = ", ".join(COMMANDS)
    if not given:
        raise UsageError(f"got no command, wanted one of {known} (crosspol --help tells more)")
    if given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"got the command {given[0]!r}, wanted one of {known}{hint}")
    return COMMANDS[given[0]]


def _parse(options_type: type[Any], program: str, given: list[str]) -> Any | None:
    """Return the options, or None after their help was printed.

    Raises:
        UsageError: a flag or value is wrong; tyro's box of text as one line.
    """
    import tyro

    asks_for_help = "-h" in given or "--help" in given
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box), contextlib.nullcontext() if asks_for_help else _wide_terminal():
            # A command whose defaults come from a file reads its arguments itself.
            parse = getattr(options_type, "parse", partial(tyro.cli, options_type))
            return parse(prog=program, args=given)
    except SystemExit as exit_:
        if not exit_.code:
            return None
    message = _unbox(box.getvalue()).replace(f"Missing from {program}:", "missing")
    raise UsageError(textwrap.shorten(message, 400, placeholder=" ..."))


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from breaking its lines, and with them paths, at the terminal's width."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDE
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _unbox(box: str) -> str:
    """Turn the box that tyro draws around an error into one line.

    The box is a title, the message, and after rules the argument's help and where to find more. Indented deeper than an
    argument's name is the text that explains it.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    message: list[str] = []
    for line in text.splitlines()[1:]:
        inner = line[2:].rstrip(" │╯╮")
        if inner.lstrip().startswith("For full helptext"):
            break
        is_rule = not inner.strip(" -─")
        if not is_rule and len(inner) - len(inner.lstrip()) < 8:
            message.append(inner.strip())
    return " ".join(message).replace(" Argument helptext:", "; wanted") or "wrong arguments"


def _complain(program: str, message: str, status: int) -> int:
    """Print one line on stderr and return the status."""
    print(f"{program}: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
