"""The command `crosspol`: finds the command, parses its options, runs it, and turns errors into one line and a status.

Exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).

A command's module is imported when the command is asked for, so that `crosspol --help` does not wait for torch.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, TextIO

from crosspol.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Command:
    """A command, by name: the module, not yet imported, its options, and what is said of it in the list of commands.

    options: ``module:class``, a frozen dataclass whose docstring is the help. The function in that module that is named
        like the command carries them out.
    summary: the first line of that docstring.
    """

    options: str
    summary: str

    def load(self, name: str) -> tuple[type[Any], Callable[[Any], None]]:
        """Import the module; return the options and what carries them out."""
        path, _, options = self.options.partition(":")
        module = importlib.import_module(path)
        return getattr(module, options), getattr(module, name)


# A new command is a new line.
COMMANDS: dict[str, Command] = {
    "demo": Command(
        "crosspol.commands.demo:DemoOptions",
        "Predict a rendered room with glass, seen by cameras with noise, with and without polarization.",
    ),
    "predict": Command("crosspol.commands.predict:PredictOptions", "Write the disparity of a stereo pair, or of many."),
    "view": Command(
        "crosspol.commands.view:ViewOptions",
        "Show pairs live in the browser: disparity, polarization, glass, confidence and point cloud.",
    ),
    "train": Command("crosspol.commands.train:TrainOptions", "Train a network, or resume a run that was stopped."),
    "plot": Command("crosspol.commands.plot:PlotOptions", "Draw the curves of one or several training runs."),
    "evaluate": Command(
        "crosspol.commands.evaluate:EvaluateOptions",
        "Measure networks on scenes with ground truth, and whether they use polarization.",
    ),
    "confidence": Command(
        "crosspol.commands.confidence:ConfidenceOptions",
        "Fit how sure a network's disparity is, and keep that with its weights.",
    ),
    "ablate": Command(
        "crosspol.commands.ablate:AblateOptions",
        "Train variants x seeds of a plan, evaluate each, and compare them.",
    ),
    "render": Command(
        "crosspol.commands.render:RenderOptions",
        "Render polarized stereo scenes with glass, for training and evaluation.",
    ),
    "doctor": Command(
        "crosspol.commands.doctor:DoctorOptions",
        "Say in words, and with a picture, why a pair's result may look wrong.",
    ),
    "report": Command(
        "crosspol.commands.report:ReportOptions",
        "Write a page to look at: what went in, what came out, with and without polarization, and why.",
    ),
    "rig": Command(
        "crosspol.commands.rig:RigOptions",
        "Describe a rig in a file, and check its frames (rig init, rig check).",
    ),
    "data": Command(
        "crosspol.commands.data:DataOptions",
        "Check a data set: every scene of a folder, or every pair of a manifest (data check).",
    ),
    "export": Command(
        "crosspol.commands.export:ExportOptions",
        "Write a network as a file of other engines: ONNX, or OpenVINO's IR.",
    ),
    "bench": Command(
        "crosspol.commands.bench:BenchOptions",
        "Print how fast networks are on this machine, by engine, size and threads, and which engine to use.",
    ),
    "info": Command(
        "crosspol.commands.info:InfoOptions", "Print the parameters of a preset or of weights, part by part."
    ),
}

EXTRAS = {
    "lightning_fabric": "train",
    "tensorboard": "train",
    "cffi": "render",
    "drjit": "render",
    "onnx": "export",
    "onnxruntime": "onnxruntime",
    "onnxscript": "export",
    "openvino": "openvino",
    "mitsuba": "render",
    "pyoidn": "render",
    "viser": "view",
}
"""Modules that a plain installation lacks, and the extra that brings each."""

_WIDE = "10000"
# What tyro 1 says, in the words of all other errors: name: got X, wanted Y. What is not here stays as it is.
_GRAMMAR = (
    # A reader of ours refused the value.
    (r"Error parsing (\S+): (got .+?, wanted .+?)(?:; wanted .*)?", r"\1: \2"),
    (r"Error parsing (\S+): no type matching \{None\}\|(\S+) could .*?from \['(.*?)'\].*", r"\1: got '\3', wanted \2"),
    (
        r"Error parsing (\S+): invalid literal for int\(\) with base 10: ('.*?')(?:; wanted .*)?",
        r"\1: got \2, wanted INT",
    ),
    (r"Error parsing (\S+): could not convert string to float: ('.*?')(?:; wanted .*)?", r"\1: got \2, wanted FLOAT"),
    (r"invalid choice (.*?) for argument '(\S+)'\. Expected one of \((.*?),?\)\.", r"\2: got \1, wanted one of \3"),
    (r"Missing value for argument '(?:action\.)?(\S+)'\. Expected 1 values\.", r"\1: got no value, wanted one"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values\.", r"\1: got too few values, wanted \2"),
    (
        r"Error parsing (\S+): Could not parse arguments \[(.*?)\] .*?; wanted \S+ ((?:[A-Z]+ )+).*",
        r"\1: got \2, wanted \3",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what follows `crosspol`; None takes the process's own.

    Returns:
        The exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted, 143 terminated. Errors
        that are not foreseen are raised.
    """
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    program = "crosspol"
    try:
        if given[:1] in (["-h"], ["--help"]):
            print(_overview())
            return 0
        if given[:1] == ["--version"]:
            print(f"crosspol {version('crosspol')}")
            return 0
        command = _find_command(given)
        program = f"crosspol {given[0]}"
        options_type, run = command.load(given[0])
        options = _parse(options_type, program, given[1:])
        # The hub's client reports every retry; the one line about what failed is ours.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        if options is not None:
            run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(program, str(error), 2)
    except ModuleNotFoundError as error:
        return _complain(program, _what_to_install(error), 2)
    except KeyboardInterrupt as error:
        return _complain(program, ": ".join(["interrupted", *filter(None, [str(error)])]), 130)
    except BrokenPipeError:
        # The reader closed the pipe (`crosspol info | head`).
        _give_up(sys.stdout)
        return 1
    except (OSError, FloatingPointError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _complain(program, f"{error.filename}: no file can have such a name ({error.strerror})", 2)
        return _complain(program, f"failed: {str(error) or type(error).__name__}", 1)
    except (RuntimeError, MemoryError) as error:
        # torch has no type of its own for a CPU without memory.
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        return _complain(program, "failed: out of memory; try smaller images (predict: --max-memory or --scale)", 1)
    return 0


def _overview() -> str:
    """Return the list of commands, one line each."""
    lines = ["usage: crosspol COMMAND [OPTIONS]", "", "Depth on glass from polarized stereo cameras.", "", "commands:"]
    lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    lines += ["", "crosspol COMMAND --help tells more about a command; crosspol --version, which version this is."]
    return "\n".join(lines)


def _find_command(given: list[str]) -> Command:
    known = ", ".join(COMMANDS)
    if not given:
        raise UsageError(f"got no command, wanted one of {known} (crosspol --help tells more)")
    if given[0] not in COMMANDS:
        raise UsageError(f"got the command {given[0]!r}, wanted one of {known}{did_you_mean(given[0], COMMANDS)}")
    return COMMANDS[given[0]]


def _what_to_install(error: ModuleNotFoundError) -> str:
    """Return the line for a module that an extra brings.

    Raises:
        ModuleNotFoundError: no extra brings it.
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        raise error
    return f"{module} is not installed, wanted the extra that brings it: pip install 'crosspol[{EXTRAS[module]}]'"


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
    message = re.sub(rf"Missing from {program}( \w+)?:", "missing", _unbox(box.getvalue()))
    for pattern, line in _GRAMMAR:
        message = re.sub(f"^{pattern}$", line, message).strip()
    raise UsageError(_with_help(textwrap.shorten(message, 400, placeholder=" ..."), program))


def _with_help(message: str, program: str) -> str:
    """Say where the options are, and which ones are near, if the message is of options that a command does not have."""
    missing, unknown, rest = message.partition("Unrecognized options: ")
    if not unknown:
        return message
    given, _, near = rest.partition(" Perhaps you meant: ")
    given, _, commands = given.partition(" Available subcommands: ")
    if near:
        given += f" (did you mean {re.sub('(?<!,) (?=--)', ' or ', near)}?)"
    elif commands:
        given += f" (wanted one of {commands})"
    before = f"{missing.strip()}. " if missing else ""
    return f"{before}{unknown}{given}; see `{program} --help`"


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
    try:
        print(f"{program}: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    except OSError:
        _give_up(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _give_up(sys.stdout)
    return status


def _prepare_streams() -> None:
    """See to it that what is printed can be, and that no file that is opened gets the number of a closed stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            # Names of files may have letters that a terminal has not, and bytes that are no letters at all.
            stream.reconfigure(errors="backslashreplace")


def _give_up(stream: TextIO) -> None:
    """Let what is left in a stream that cannot be written go nowhere: Python would complain again at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
