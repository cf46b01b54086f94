from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol import cli
from crosspol.cli import main
from crosspol.commands import predict as predict_module
from crosspol.commands.info import describe, parameters_by_part
from crosspol.commands.pairs import find_pairs
from crosspol.errors import UsageError
from crosspol.io.disparity import read_disparity
from crosspol.io.images import write_image
from crosspol.model import CrossPol, CrossPolConfig, FusionConfig
from tests.rig_frames import eight_bits, views
from tests.rig_frames import raw as raw_frame

HEIGHT, WIDTH = 40, 52


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "plain"
    CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none")).save_pretrained(folder)
    return folder


def image(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def pair(tmp_path) -> Path:
    """A folder with left.png, right.png and dolp.png; the working directory of the test."""
    write_image(tmp_path / "left.png", image())
    write_image(tmp_path / "right.png", np.roll(image(), -3, axis=1))
    write_image(tmp_path / "dolp.png", image(1)[..., 0])
    return tmp_path


def lines(text: str) -> list[str]:
    return text.strip("\n").split("\n") if text else []


# predict


def test_predict_writes_every_format_and_says_so(pair, weights, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    arguments = ["predict", "left.png", "right.png", "--weights", str(weights), "--iters", "2", "--device", "cpu"]
    assert main([*arguments, "--output", "out", "--polarization-left", "dolp.png"]) == 0
    said = capsys.readouterr()
    names = ["pfm", "png", "npy"]
    written = [f"out/left_disparity.{name}" for name in names]
    written += ["out/left_disparity_color.png", "out/left_polarization_use.png"]
    assert [line.strip() for line in lines(said.out)[1:]] == written
    assert sorted(str(path) for path in Path("out").iterdir()) == sorted(written)
    assert said.err == ""
    exact = read_disparity("out/left_disparity.npy")
    assert exact.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read_disparity("out/left_disparity.pfm"), exact)
    assert re.fullmatch(
        rf"left\.png with right\.png: disparity {exact.min():.1f} to {exact.max():.1f} px, \d+\.\d s",
        lines(said.out)[0],
    )
    # The same pair again replaces the files and leaves nothing else behind: what is not written now is gone.
    assert main([*arguments, "--output", "out"]) == 0
    assert {path.name for path in Path("out").iterdir()} == {Path(name).name for name in written[:-1]}


def test_predict_takes_options(pair, weights, capsys):
    arguments = ["predict", str(pair / "left.png"), str(pair / "right.png"), f"--weights={weights}", "--iters=1"]
    found = {}
    for precision in ("float32", "bfloat16"):
        assert main([*arguments, "--precision", precision, f"--output={pair / precision}"]) == 0
        found[precision] = read_disparity(pair / precision / "left_disparity.npy")
    assert 0 < np.abs(found["float32"] - found["bfloat16"]).max() < 0.1
    assert main([*arguments[:-1], "--iters=2", f"--output={pair / 'two'}"]) == 0
    assert np.abs(read_disparity(pair / "two" / "left_disparity.npy") - found["float32"]).max() > 1e-3


@pytest.mark.parametrize("by", ["folders", "patterns", "subfolders"])
def test_predict_many_pairs(tmp_path, weights, capsys, by):
    arguments = {
        "folders": (tmp_path / "l", tmp_path / "r"),
        "patterns": (tmp_path / "*_left.png", tmp_path / "*_right.png"),
        "subfolders": (tmp_path / "*" / "left.png", tmp_path / "*" / "right.png"),
    }[by]
    shapes = [(40, 52), (33, 40)]
    for index, size in enumerate(shapes):
        for side in ("left", "right"):
            path = {
                "folders": tmp_path / side[0] / f"{index}.png",
                "patterns": tmp_path / f"{index}_{side}.png",
                "subfolders": tmp_path / str(index) / f"{side}.png",
            }[by]
            path.parent.mkdir(exist_ok=True)
            write_image(path, image(index + 9 * (side == "right"), size))
    request = ["predict", *map(str, arguments), "--weights", str(weights), "--iters", "1"]
    assert main([*request, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    stems = {"folders": ["0", "1"], "patterns": ["0_left", "1_left"], "subfolders": ["0_left", "1_left"]}[by]
    for stem, size in zip(stems, shapes, strict=True):
        assert read_disparity(tmp_path / "out" / f"{stem}_disparity.pfm").shape == size
    assert said.err == ""
    assert re.search(r"^2 pairs in \d+ s$", said.out, re.MULTILINE)
    assert said.out.startswith("2 pairs: ")
    assert sum("disparity " in line for line in lines(said.out)) == 2


def test_a_result_never_replaces_an_input(tmp_path, weights, capsys):
    for side in ("left", "right"):
        write_image(tmp_path / f"{side}.png", image())
    shutil.copy(tmp_path / "right.png", tmp_path / "left_disparity.png")
    before = (tmp_path / "left_disparity.png").read_bytes()
    request = ["predict", str(tmp_path / "left.png"), str(tmp_path / "left_disparity.png"), "--weights", str(weights)]
    assert main([*request, "--output", str(tmp_path)]) == 2
    assert "left_disparity.png: the result would replace this file" in capsys.readouterr().err
    assert (tmp_path / "left_disparity.png").read_bytes() == before


@pytest.mark.parametrize("other", ["a_disparity.png", "a_disparity_color.png"])
def test_a_result_never_replaces_an_input_of_another_pair(tmp_path, weights, capsys, other):
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for name in ("a.png", other):
            write_image(tmp_path / side / name, image())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    request = ["predict", str(tmp_path / "left"), str(tmp_path / "right"), "--weights", str(weights)]
    assert main([*request, "--output", str(tmp_path / "left")]) == 2
    assert f"left/{other}: the result would replace this file" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_a_raw_mosaic_without_a_rig_is_asked_about(tmp_path, weights, capsys):
    raw = eight_bits(raw_frame(views()[0]))
    for side in ("left", "right"):
        write_image(tmp_path / f"{side}.png", raw)
    request = ["predict", str(tmp_path / "left.png"), str(tmp_path / "right.png"), "--weights", str(weights)]
    assert main([*request, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"left\.png: got an image full of 2x2 structure.*--rig", said)
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# What is refused: the arguments, in the folder of `pair`; and what the one line must contain.


def missing(folder: Path) -> None:
    pass


def write_text(folder: Path) -> None:
    (folder / "bad.png").write_text("this is no image\n")


def write_web_page(folder: Path) -> None:
    (folder / "bad.png").write_text("<!DOCTYPE html><html></html>")


def write_truncated(folder: Path) -> None:
    data = (folder / "right.png").read_bytes()
    (folder / "bad.png").write_bytes(data[: len(data) // 2])


def write_empty(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"")


def write_folder(folder: Path) -> None:
    (folder / "bad").mkdir()


def write_small(folder: Path) -> None:
    write_image(folder / "bad.png", image(0, (31, 52)))


def write_other_size(folder: Path) -> None:
    write_image(folder / "bad.png", image(0, (HEIGHT, WIDTH + 1)))


def write_transparent(folder: Path) -> None:
    import cv2

    cv2.imwrite(str(folder / "bad.png"), np.zeros((HEIGHT, WIDTH, 4), np.uint8))


def write_array(value: float, shape: tuple[int, ...] = (HEIGHT, WIDTH)):
    def write(folder: Path) -> None:
        np.save(folder / "bad.npy", np.full(shape, value, np.float32))

    return write


def write_unequal(folder: Path) -> None:
    for side, count in (("l", 3), ("r", 2)):
        (folder / side).mkdir()
        for index in range(count):
            write_image(folder / side / f"{index}.png", image())


def write_broken_middle(folder: Path) -> None:
    for side in ("l", "r"):
        (folder / side).mkdir()
        for index in range(3):
            write_image(folder / side / f"{index}.png", image())
    (folder / "r" / "1.png").write_text("oops")


def write_file_as_output(folder: Path) -> None:
    (folder / "taken").write_text("mine")


def write_corrupt_weights(folder: Path) -> None:
    (folder / "corrupt").mkdir()
    (folder / "corrupt" / "config.json").write_text("{}")
    (folder / "corrupt" / "model.safetensors").write_bytes(b"\x00" * 100)


def write_corrupt_config(folder: Path) -> None:
    write_corrupt_weights(folder)
    (folder / "corrupt" / "config.json").write_text("{not json")


PREDICT = ("predict", "left.png", "right.png", "--output", "out")
BAD_RIGHT = ("predict", "left.png", "bad.png", "--output", "out")
BAD_ARRAY = ("predict", "left.png", "bad.npy", "--output", "out")
BAD_POLARIZATION = (*PREDICT, "--polarization-left", "bad.npy")

REFUSED = {
    "missing file": (missing, ("predict", "left.png", "none.png", "--output", "out"), "none.png: no such file"),
    "missing left": (missing, ("predict", "none.png", "right.png", "--output", "out"), "none.png: no such file"),
    "one is a folder": (write_unequal, ("predict", "left.png", "r", "--output", "out"), r"r/1\.png: got no partner"),
    "text file": (write_text, BAD_RIGHT, r"bad\.png: got a text file \(\d+ bytes\), wanted a complete image"),
    "web page": (write_web_page, BAD_RIGHT, r"bad\.png: got a web page"),
    "truncated": (write_truncated, BAD_RIGHT, r"bad\.png: got a truncated or damaged PNG"),
    "empty": (write_empty, BAD_RIGHT, r"bad\.png: got an empty file \(0 bytes\)"),
    "too small": (write_small, BAD_RIGHT, r"bad\.png: got 52x31 px, wanted at least 32x32 px"),
    "other size": (write_other_size, BAD_RIGHT, r"bad\.png: got 53x40 px, wanted 52x40 px as in left\.png"),
    "transparent": (write_transparent, BAD_RIGHT, r"bad\.png: got transparent pixels"),
    "all NaN": (write_array(np.nan), BAD_ARRAY, r"bad\.npy: got only NaN values"),
    "infinite": (write_array(np.inf), BAD_ARRAY, r"bad\.npy: got only infinite values"),
    "0 to 255": (write_array(200.0), BAD_ARRAY, r"bad\.npy: .*wanted \[0, 1\]; divide 8-bit values by 255"),
    "wrong shape": (
        write_array(0.5, (3, HEIGHT, WIDTH)),
        BAD_ARRAY,
        r"bad\.npy: got an array of shape \(3, 40, 52\)",
    ),
    "polarization missing": (missing, (*PREDICT, "--polarization-right", "no.npy"), r"no\.npy: no such file"),
    "polarization size": (write_array(0.5, (HEIGHT, 60)), BAD_POLARIZATION, r"bad\.npy: got 60x40 px, wanted 52x40"),
    "polarization range": (write_array(1.5), BAD_POLARIZATION, r"bad\.npy: got values .*wanted \[-1, 1\]"),
    "polarization NaN": (write_array(np.nan), BAD_POLARIZATION, r"bad\.npy: got only NaN, wanted DoLP"),
    "polarization color": (
        missing,
        (*PREDICT, "--polarization-left", "left.png"),
        r"left\.png: got a color image",
    ),
    "polarization unused": (
        missing,
        (*PREDICT, "--polarization-left", "dolp.png", "--weights", "PLAIN"),
        r"dolp\.png: got polarization, but these weights do not use polarization",
    ),
    "empty folder": (
        write_folder,
        ("predict", "bad", "bad", "--output", "out"),
        "bad: got a folder without images",
    ),
    "no match": (
        missing,
        ("predict", "x*.png", "y*.png", "--output", "out"),
        r"x\*\.png: no file has a name like this",
    ),
    "unequal counts": (write_unequal, ("predict", "l", "r", "--output", "out"), r"l/2\.png: got no partner"),
    "broken in the middle": (
        write_broken_middle,
        ("predict", "l", "r", "--output", "out"),
        r"r/1\.png: got a text file",
    ),
    "output is a file": (write_file_as_output, (*PREDICT[:4], "taken"), "taken: taken is a file, wanted a folder"),
    "output under a file": (write_file_as_output, (*PREDICT[:4], "taken/out"), "taken/out: taken is a file"),
    "output unwritable": (missing, (*PREDICT[:4], "/proc/crosspol/out"), "/proc/crosspol/out: "),
    "no weights": (missing, (*PREDICT, "--weights", "./none"), r"\./none: .*folder"),
    "not weights": (write_folder, (*PREDICT, "--weights", "bad"), r"bad.*config\.json"),
    "weights are a file": (missing, (*PREDICT, "--weights", "left.png"), r"left\.png: .*folder"),
    "corrupt weights": (write_corrupt_weights, (*PREDICT, "--weights", "corrupt"), r"corrupt/model\.safetensors"),
    "corrupt config": (write_corrupt_config, (*PREDICT, "--weights", "corrupt"), r"corrupt/config\.json"),
    "truncated weights": (missing, (*PREDICT, "--weights", "TRUNCATED"), r"truncated/model\.safetensors"),
    "unknown device": (missing, (*PREDICT, "--device", "gpu"), "device: got 'gpu', wanted one of auto, cpu"),
    "unknown precision": (
        missing,
        (*PREDICT, "--precision", "half"),
        "--precision: got 'half', wanted one of 'float32', 'bfloat16'",
    ),
    "iters 0": (missing, (*PREDICT, "--iters", "0"), "iters: got 0, wanted a whole number from 1 up"),
    "iters negative": (missing, (*PREDICT, "--iters", "-2"), "iters: got -2"),
    "iters no number": (missing, (*PREDICT, "--iters", "many"), "--iters: got 'many', wanted INT"),
    "iters without value": (missing, (*PREDICT, "--iters"), "--iters: got no value, wanted one"),
    "unknown flag": (missing, (*PREDICT, "--itters", "3"), r"--itters, 3 \(did you mean --iters"),
    "too many arguments": (missing, ("predict", "a", "b", "c", "--output", "out"), "Unrecognized options: c"),
    "missing argument": (missing, ("predict", "left.png", "--output", "out"), "missing RIGHT"),
    "missing output": (missing, ("predict", "left.png", "right.png"), "missing --output DIR"),
    "no command": (missing, (), "got no command, wanted one of demo, predict"),
    "unknown command": (missing, ("predikt",), "'predikt', wanted one of .*; did you mean predict"),
    "info of nothing": (
        missing,
        ("info", "bleuprint"),
        "bleuprint: no such folder, .*or one of blueprint, crosspol, raft-stereo",
    ),
    "demo output is a file": (write_file_as_output, ("demo", "--output", "taken"), "taken: taken is a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_requests_get_one_line_and_status_2(pair, weights, plain_weights, capfd, monkeypatch, case):
    prepare, arguments, says = REFUSED[case]
    monkeypatch.chdir(pair)
    prepare(pair)
    if "TRUNCATED" in arguments:
        shutil.copytree(weights, pair / "truncated")
        os.truncate(pair / "truncated" / "model.safetensors", 1_000_000)
    given = [{"PLAIN": str(plain_weights), "TRUNCATED": "truncated"}.get(word, word) for word in arguments]
    if given[:1] == ["predict"] and "--weights" not in given:
        given += ["--weights", str(weights)]
    before = {path: path.stat().st_mtime_ns for path in sorted(pair.rglob("*"))}
    assert main(given) == 2
    said = capfd.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("crosspol")
    assert re.search(says, said.err), said.err
    assert "Traceback" not in said.err
    assert {path: path.stat().st_mtime_ns for path in sorted(pair.rglob("*"))} == before


def test_the_table_of_wrong_requests_is_long():
    assert len(REFUSED) >= 20


def test_long_paths_are_not_broken(pair, weights, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "a" * 150 + " " + "b" * 50
    assert main([*PREDICT, "--weights", str(weights), f"--{name}"]) == 2
    assert f"--{name}" in capfd.readouterr().err
    assert os.environ["COLUMNS"] == "40"


# Failures of the work, and interruptions

# No word of bfloat16: where it is emulated, it takes tens of times longer.
OUT_OF_MEMORY = r"failed: out of memory; try smaller images \(predict: --max-memory or --scale\)"


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (OSError(28, "No space left on device"), 1, "failed: .*No space left"),
        (OSError(36, "File name too long", "b" * 300), 2, "b{300}: no file can have such a name"),
        (
            FloatingPointError("the network's disparity is not finite"),
            1,
            r"failed: left\.png with right\.png: the network's disparity",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), 1, OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, OUT_OF_MEMORY),
        (MemoryError(), 1, OUT_OF_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_work_that_fails_gets_one_line(pair, weights, capfd, monkeypatch, error, status, says):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(pair)
    monkeypatch.setattr(predict_module.StereoPredictor, "estimate", fail)
    assert main([*PREDICT, "--weights", str(weights)]) == status
    said = capfd.readouterr().err
    assert re.fullmatch(rf"crosspol predict: {says}.*\n", said)
    assert "bfloat16" not in said
    assert not list((pair / "out").iterdir())


def test_errors_that_nobody_foresaw_are_raised(pair, weights, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.chdir(pair)
    monkeypatch.setattr(predict_module.StereoPredictor, "estimate", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main([*PREDICT, "--weights", str(weights)])


def test_a_disk_that_fills_up_leaves_no_partial_file(pair, weights, capfd, monkeypatch):
    replace = os.replace

    def fail_at_the_image(source: Path, target: Path) -> None:
        if str(target).endswith("_color.png"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.chdir(pair)
    monkeypatch.setattr(os, "replace", fail_at_the_image)
    assert main([*PREDICT, "--weights", str(weights), "--iters", "1"]) == 1
    assert "No space left" in capfd.readouterr().err
    assert {path.name for path in (pair / "out").iterdir()} == {
        f"left_disparity.{kind}" for kind in ("pfm", "png", "npy")
    }


# Help


def test_help_lists_commands_and_each_teaches_with_an_example(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} +\S.+\.$", overview, re.MULTILINE)
        assert main([name, "--help"]) == 0
        said = capsys.readouterr()
        assert f"    crosspol {name}" in said.out
        assert said.err == ""
    assert main(["--version"]) == 0
    assert re.fullmatch(r"crosspol \d+\.\d+\.\d+\n", capsys.readouterr().out)


def commands_with_help(capsys):
    """Yield the words of every command and subcommand, and its help."""
    for name in cli.COMMANDS:
        assert main([name, "--help"]) == 0
        said = capsys.readouterr().out
        yield name, said
        subcommands = re.match(r"usage: crosspol \w+ \[-h\] \{([\w,]+)\}", said)
        for word in subcommands[1].split(",") if subcommands else ():
            assert main([name, word, "--help"]) == 0
            yield f"{name} {word}", capsys.readouterr().out


def test_help_shows_no_value_that_nobody_can_type(capsys):
    seen = []
    for name, said in commands_with_help(capsys):
        seen.append(name)
        assert said.startswith(f"usage: crosspol {name} [-h]"), name
        assert "{None}" not in said, name
        # What None means for a setting of training, its text says; it is what one types.
        assert "(default: None)" not in said or name == "train", name
        positional = said.partition("positional arguments")[2].partition("╰")[0]
        assert "(default: )" not in positional, name
    assert {"rig init", "rig check", "data check", "train"} <= set(seen)


def test_settings_that_may_be_none_are_listed_as_what_else_they_are(capsys):
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    for flag in (
        "machine.workers INT", "data.scenes STR", "network.fusion.attention.window INT",
        "data.procedural.max-disparity FLOAT",
    ):  # fmt: skip
        assert re.search(rf"--{re.escape(flag)} *[│\n]", said), flag
    options, _ = cli.COMMANDS["train"].load("train")
    given = ["--output", "x", "--data.procedural.max-disparity", "None", "--machine.workers", "3"]
    training = options.parse("crosspol train", given).training
    assert (training.data.procedural.max_disparity, training.machine.workers) == (None, 3)


def test_the_list_of_commands_says_what_their_own_help_says():
    for name, command in cli.COMMANDS.items():
        options, run = command.load(name)
        assert command.summary == (options.__doc__ or "").partition("\n")[0]
        assert run.__name__ == name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["render", "--help"], ["ablate", "--help"], ["-x"]])
def test_what_needs_no_torch_starts_without_it(arguments):
    code = f"""
import sys
from crosspol.cli import main
status = main({arguments!r})
print(status, sorted({{"torch", "cv2", "matplotlib", "lightning_fabric"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ("2 []" if arguments == ["-x"] else "0 []"), done.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("lightning_fabric", ["train", "--preset", "cpu-tiny", "--num-steps", "1", "--output", "run"], "train"),
        ("tensorboard", ["train", "--preset", "cpu-tiny", "--num-steps", "1", "--output", "run"], "train"),
        ("mitsuba", ["render", "--output", "rooms"], "render"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(tmp_path, module, arguments, extra):
    # As where it is not installed: in a process of its own, in which the module cannot be found.
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from crosspol.cli import main
sys.exit(main({arguments!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    # Training says first what it is about to do.
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"crosspol {arguments[0]}: ")
    assert f"pip install 'crosspol[{extra}]'" in last
    assert "Traceback" not in done.stderr


def test_a_plain_installation_lacks_what_extras_bring_and_no_other_module():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    core = text.partition("dependencies = [")[2].partition("]")[0]
    for module, extra in cli.EXTRAS.items():
        brought = text.partition(f"\n{extra} = [")[2].partition("\n]")[0]
        assert module in ("drjit",) or module.replace("_", "-") in brought  # drjit comes with mitsuba
        assert module.replace("_", "-") not in core
    developers = text.partition("dev = [")[2].partition("\n]")[0]
    assert '"crosspol[docs,export,onnxruntime,openvino,render,train,view]"' in developers


def test_commands_that_only_use_a_network_are_imported_without_any_extra():
    # None in sys.modules: importing it fails, and who only asks (torch does, for onnx) is told that it is not there.
    code = f"""
import sys
sys.modules.update(dict.fromkeys({set(cli.EXTRAS)!r}))
from crosspol.cli import COMMANDS, main
for name, command in COMMANDS.items():
    command.load(name)
sys.exit(main(["info"]))
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [("report", "LEFT|DIR|FILE [RIGHT]"), ("view", "LEFT|DIR [RIGHT]"), ("predict", "LEFT [RIGHT]")],
)
def test_usage_says_what_can_be_given(capsys, command, wanted):
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.split("\n")[0] == f"usage: crosspol {command} [-h] [OPTIONS] {wanted}"


# What becomes of the boxes that tyro draws: exactly this, for the major version that is pinned.
BOXES = {
    ("evaluate",): "missing --output DIR",
    ("evaluate", "--output", "x", "y"): "Unrecognized options: y; see `crosspol evaluate --help`",
    ("evaluate", "--output", "x", "--itters", "3"): (
        "Unrecognized options: --itters, 3 (did you mean --iters N?); see `crosspol evaluate --help`"
    ),
    ("evaluate", "--iterss", "3"): (
        "missing --output DIR. Unrecognized options: --iterss 3; see `crosspol evaluate --help`"
    ),
    ("predict", "a", "b", "--output", "x", "--pol", "c"): (
        "Unrecognized options: --pol, c (did you mean --polarization-left PATH or --polarization-right PATH or "
        "--save-polarization, --no-save-polarization?); see `crosspol predict --help`"
    ),
    ("rig", "inti"): "Unrecognized options: inti (wanted one of init, check); see `crosspol rig --help`",
    ("evaluate", "--output", "x", "--iters"): "--iters: got no value, wanted one",
    ("evaluate", "--output", "x", "--iters", "many"): "--iters: got 'many', wanted INT",
    ("evaluate", "--output", "x", "--size", "64"): "--size: got '64', wanted WIDTHxHEIGHT, such as 640x480",
    ("evaluate", "--output", "x", "--size", "8x64"): "--size: got '8x64', wanted at least 32x32 px",
    ("evaluate", "--output", "x", "--rig", "None"): (
        "--rig: got 'None', wanted one of 'quad', 'quad-left', 'crossed', 'none'"
    ),
    ("render", "--output", "x", "--scenes", "2.5"): "--scenes: got '2.5', wanted INT",
    ("train", "--output", "x", "--lr", "fast"): "--lr: got 'fast', wanted FLOAT",
    (
        "train",
        "--output",
        "x",
        "--data.procedural.layers",
        "2",
    ): "--data.procedural.layers: got too few values, wanted 2",
    (
        "train",
        "--output",
        "x",
        "--data.procedural.layers",
        "2",
        "a",
    ): "--data.procedural.layers: got '2', 'a', wanted INT INT",
}


def test_tyro_is_pinned_to_the_version_whose_errors_are_understood(capsys):
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"tyro>=1.0,<2"' in text
    assert importlib.metadata.version("tyro").startswith("1.")
    for arguments, line in BOXES.items():
        assert main(list(arguments)) == 2
        assert capsys.readouterr().err == f"crosspol {arguments[0]}: {line}\n"


def test_other_modules_that_are_missing_are_raised(monkeypatch):
    def fail(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'crosspol.typo'", name="crosspol.typo")

    monkeypatch.setattr(cli.Command, "load", fail)
    with pytest.raises(ModuleNotFoundError, match=r"crosspol\.typo"):
        main(["info"])


def test_info_prints_the_parts(capsys, weights):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    parts = {
        "feature encoder": 1_053_216,
        "context encoder": 1_069_728,
        "polarization encoder": 309_761,
        "fusion": 115_713,
        "update block": 1_815_297,
    }
    for part, count in parts.items():
        assert re.search(rf"{part} +{count:,} ", said)
    assert said.startswith("blueprint: 4,363,715 parameters, all trainable")
    assert main(["info", str(weights)]) == 0
    assert "4,363,715 parameters" in capsys.readouterr().out


def test_parts_add_up_to_the_whole_for_every_preset():
    for name in ("blueprint", "raft-stereo", "raft-stereo-realtime"):
        network = CrossPol.from_preset(name)
        total = sum(parameter.numel() for parameter in network.parameters())
        assert sum(parameters_by_part(network).values()) == total


def test_heads_on_a_shared_trunk_are_not_all_of_an_encoder():
    """A new backbone may name its parts as the blueprint does: none of its parameters gets lost."""
    encoders = torch.nn.ModuleDict({name: torch.nn.Conv2d(3, 8, 3) for name in ("trunk", "features", "context")})
    network = CrossPol(encoders=encoders)
    parts = parameters_by_part(network)
    assert parts["shared encoder"] == 3 * 8 * (27 + 1)
    assert sum(parts.values()) == sum(parameter.numel() for parameter in network.parameters())


# Which images belong together


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, left: str, right: str) -> list[tuple[str, str, str]]:
    pairs = find_pairs(str(folder / left), str(folder / right))
    return [(str(p.left.relative_to(folder)), str(p.right.relative_to(folder)), p.stem) for p in pairs]


def test_folders_are_matched_by_name_whatever_the_order(tmp_path):
    touch(tmp_path, "l/2.png", "l/10.jpg", "r/10.png", "r/2.png", "r/notes.txt")
    assert found(tmp_path, "l", "r") == [("l/10.jpg", "r/10.png", "10"), ("l/2.png", "r/2.png", "2")]


def test_words_for_the_sides_do_not_matter(tmp_path):
    touch(tmp_path, "7_left.png", "7_right.png", "8_left.png", "8_right.png", "frameL12.png")
    assert found(tmp_path, "*_left.png", "*_right.png") == [
        ("7_left.png", "7_right.png", "7_left"),
        ("8_left.png", "8_right.png", "8_left"),
    ]


def test_names_without_anything_in_common_are_refused(tmp_path):
    touch(tmp_path, "l/a.png", "l/b.png", "r/x.png", "r/y.png")
    with pytest.raises(UsageError, match=r"l/a.png: got no partner of this name in .*r .*x\.png.*, wanted names that"):
        found(tmp_path, "l", "r")
    assert found(tmp_path, "l/a.png", "r/y.png") == [("l/a.png", "r/y.png", "a")]


def test_times_are_matched_by_the_nearest(tmp_path):
    touch(
        tmp_path, "l/1000.10.png", "l/1000.20.png", "l/1000.30.png", "r/1000.101.png", "r/1000.202.png", "r/1000.29.png"
    )
    expected = {"1000.10": "1000.101", "1000.20": "1000.202", "1000.30": "1000.29"}
    pairs = find_pairs(str(tmp_path / "l"), str(tmp_path / "r"))
    assert {pair.left.stem: pair.right.stem for pair in pairs} == expected
    assert [float(pair.apart) for pair in pairs] == [0.001, 0.002, 0.01]


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        (("150", "250", "350"), r"l/100.png: got no partner in .*r: the nearest, 150.png, is 50 away"),
        (("101", "199", "299", "420"), r"r/420.png: got no partner among the 3 left images"),
        (("101", "201"), r"l/300.png: got no partner in .*: the nearest, 201.png, is 99 away"),
    ],
)
def test_times_that_do_not_say_which_belong_together_are_refused(tmp_path, rights, says):
    touch(tmp_path, "l/100.png", "l/200.png", "l/300.png", *(f"r/{name}.png" for name in rights))
    with pytest.raises(UsageError, match=says):
        found(tmp_path, "l", "r")


@pytest.mark.parametrize(
    ("names", "odd"),
    [
        (("l/1.png", "l/2.png", "l/3.png", "r/1.png", "r/3.png"), "l/2.png: got no partner of this name in .*r"),
        (("l/1.png", "l/2.png", "r/1.png", "r/2.png", "r/4.png"), "r/4.png: got no partner of this name in .*l"),
        (("l/left1.png", "l/left2.png", "r/right2.png", "r/right3.png"), "l/left1.png: got no partner"),
        (("l/a.png", "l/b.png", "r/x.png"), "l/b.png: got no partner: .*l names 2 files, .*r names 1"),
    ],
)
def test_the_odd_one_out_is_named(tmp_path, names, odd):
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=odd):
        find_pairs(str(tmp_path / "l"), str(tmp_path / "r"))


def test_polarization_is_matched_as_well(tmp_path):
    touch(tmp_path, "l/1.png", "l/2.png", "r/1.png", "r/2.png", "p/2_dolp.npy", "p/1_dolp.npy")
    pairs = find_pairs(str(tmp_path / "l"), str(tmp_path / "r"), polarization_right=str(tmp_path / "p"))
    assert [pair.polarization_right.name for pair in pairs] == ["1_dolp.npy", "2_dolp.npy"]
    assert [pair.polarization_left for pair in pairs] == [None, None]


def test_two_images_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "l/1.png", "l/1.jpg", "r/a.png", "r/b.png")
    with pytest.raises(UsageError, match="got two images of one name"):
        find_pairs(str(tmp_path / "l"), str(tmp_path / "r"))


@settings(deadline=None, max_examples=20)
@given(
    numbers=st.sets(st.integers(0, 10**6), min_size=2, max_size=6),
    form=st.sampled_from([("{}_left.png", "{}_right.png"), ("L{}.png", "R{}.png"), ("im {}.png", "im {}.jpg")]),
)
def test_pairs_are_found_for_any_numbers(tmp_path_factory, numbers, form):
    folder = tmp_path_factory.mktemp("pairs")
    touch(folder, *(f"l/{form[0].format(n)}" for n in numbers), *(f"r/{form[1].format(n)}" for n in numbers))
    pairs = find_pairs(str(folder / "l"), str(folder / "r"))
    digits = [[re.sub(r"\D", "", path.name) for path in (pair.left, pair.right)] for pair in pairs]
    assert all(left == right for left, right in digits)
    assert {int(left) for left, _ in digits} == numbers


# As a process


def test_the_command_runs_as_a_process(pair, weights):
    program = [sys.executable, "-m", "crosspol.cli"]
    request = ["predict", "left.png", "right.png", "--weights", str(weights), "--iters", "1", "--output", "out"]
    done = subprocess.run([*program, *request], cwd=pair, capture_output=True, text=True, check=True)
    assert "out/left_disparity.pfm" in done.stdout
    assert done.stderr == ""
    (pair / "right.png").write_text("no image")
    refused = subprocess.run([*program, *request], cwd=pair, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert re.fullmatch(r"crosspol predict: right\.png: got a text file \(8 bytes\), wanted .*\n", refused.stderr)


@pytest.mark.parametrize(
    ("fusion", "says"),
    [
        ({"kind": "cross-attention"}, r"fusion: attention is gated by alpha = 0\.000335 \(cap 0\.05\)"),
        ({"gate": "projection"}, r"fusion: attention passes its projection, which starts at 0; there is no alpha"),
        ({"kind": "concat"}, r"fusion: concatenated with the stereo features and convolved; nothing gates it"),
        ({"kind": "none"}, None),
    ],
)
def test_info_says_what_holds_polarization_back(fusion, says):
    said = describe(CrossPol(CrossPolConfig(fusion=FusionConfig(**fusion))), "net")
    assert ("fusion: " in said) == (says is not None)
    assert says is None or re.search(rf"^  {says}$", said, re.MULTILINE)
