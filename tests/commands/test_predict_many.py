"""`crosspol predict` over folders and videos: what is skipped, what is refused, and what every output is called."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands import predict as predict_module
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image, write_image
from crosspol.rigs.rig import default_rig
from tests.open_network import open_network
from tests.plain_pairs import good_pair
from tests.rig_frames import eight_bits, views
from tests.rig_frames import raw as raw_frame

HEIGHT, WIDTH = 40, 52


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def smooth(seed: int) -> np.ndarray:
    """What a video's encoder hardly changes."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, (WIDTH + WIDTH % 2, HEIGHT), interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with four pairs in l/ and r/."""
    monkeypatch.chdir(tmp_path)
    for side in ("l", "r"):
        (tmp_path / side).mkdir()
        for index in range(4):
            write_image(tmp_path / side / f"{index}.png", np.roll(picture(index), -2 * (side == "r"), axis=1))
    return tmp_path


@pytest.fixture
def run(weights: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command; returns status, stdout and stderr."""

    def run(*arguments: str, iters: int = 1) -> tuple[int, str, str]:
        always = ("--weights", str(weights), "--iters", str(iters), "--device", "cpu", "--output", "out")
        capsys.readouterr()
        status = main(["predict", *always, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def state(folder: Path) -> dict[str, int]:
    """When the results were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "predict.jsonl"}


def only_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    """Make the network fail when it has predicted `count` pairs."""
    estimate, calls = StereoPredictor.estimate, []

    def failing(self: StereoPredictor, *arguments: object, **named: object):
        calls.append(1)
        if len(calls) > count:
            raise error
        return estimate(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_module.StereoPredictor, "estimate", failing)


def test_an_interrupted_run_is_taken_up_where_it_was(folder: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("l", "r")[0] == 0
    whole = {index: read_disparity(f"out/{index}_disparity.npy") for index in range(4)}
    for path in Path("out").iterdir():
        path.unlink()
    with monkeypatch.context() as patch:
        only_after(patch, 2, KeyboardInterrupt())
        status, out, err = run("l", "r")
        assert status == 130
        goes_on = "the same command with --skip-existing goes on with what is missing"
        assert err == f"crosspol predict: interrupted: {goes_on}\n"
    assert not {thread.name.partition("_")[0] for thread in threading.enumerate()} & {"reading", "writing", "progress"}
    before = state(Path("out"))
    assert {name[0] for name in before} == {"0", "1"}
    assert not list(Path("out").glob(".*"))  # no partial files
    status, out, err = run("l", "r", "--skip-existing")
    assert status == 0
    assert err == ""
    assert [line.split()[0] for line in out.splitlines() if "disparity " in line] == ["l/2.png", "l/3.png"]
    assert re.search(r"^2 pairs in \d+ s, 2 were complete already$", out, re.MULTILINE)
    after = state(Path("out"))
    assert {name: after[name] for name in before} == before
    for index, expected in whole.items():
        np.testing.assert_array_equal(read_disparity(f"out/{index}_disparity.npy"), expected)
    # Once more, and nothing is left to do.
    assert run("l", "r", "--skip-existing")[:1] == (0,)
    assert state(Path("out")) == after


def test_only_what_is_complete_and_as_it_was_is_skipped(folder: Path, run) -> None:
    assert run("l", "r")[0] == 0
    before = state(Path("out"))
    Path("out/0_disparity.png").unlink()
    data = bytearray(Path("out/1_disparity.npy").read_bytes())
    data[-3] ^= 0xFF
    Path("out/1_disparity.npy").write_bytes(data)
    write_image(folder / "r" / "2.png", picture(99))
    _, out, _ = run("l", "r", "--skip-existing")
    assert [line.split()[0] for line in out.splitlines() if "disparity " in line] == ["l/0.png", "l/1.png", "l/2.png"]
    after = state(Path("out"))
    assert {name for name in before if after[name] == before[name]} == {name for name in before if name[0] == "3"}


def test_results_nobody_knows_the_settings_of_are_not_taken(folder: Path, run) -> None:
    assert run("l", "r")[0] == 0
    record = Path("out/predict.jsonl")
    lines = record.read_text().splitlines()
    record.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][: len(lines[-1]) // 2])  # cut off by a power failure
    _, out, _ = run("l", "r", "--skip-existing")
    assert [line.split()[0] for line in out.splitlines() if "disparity " in line] == ["l/3.png"]
    record.unlink()
    assert "4 pairs in" in run("l", "r", "--skip-existing")[1]
    assert "4 were complete" in run("l", "r", "--skip-existing")[1]


@pytest.mark.parametrize(
    ("arguments", "iters", "says"),
    [
        ((), 2, r"iters 1, now 2"),
        (("--warm-start",), 1, r"warm_start False, now True"),
        (("--precision", "bfloat16"), 1, r"precision float32, now bfloat16"),
        (("--weights", "other"), 1, r"weights [0-9a-f]{16}, now [0-9a-f]{16}"),
    ],
)
def test_results_of_other_settings_are_not_mixed_in(
    folder: Path, run, other_weights: Path, arguments: tuple[str, ...], iters: int, says: str
) -> None:
    assert run("l", "r")[0] == 0
    before = state(Path("out"))
    given = tuple(str(other_weights) if word == "other" else word for word in arguments)
    status, _, err = run("l", "r", "--skip-existing", *given, iters=iters)
    assert status == 2
    lines = [line for line in err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    assert re.search(rf"--skip-existing: got results of other settings in out/predict\.jsonl \({says}\)", lines[0])
    assert state(Path("out")) == before
    # Without the flag they are replaced, and from then on the new ones count.
    assert run("l", "r", iters=2)[0] == 0
    assert "4 were complete" in run("l", "r", "--skip-existing", iters=2)[1]


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `weights`, but for one tensor."""
    folder = tmp_path_factory.mktemp("weights") / "other"
    network = open_network()
    next(network.parameters()).data.mul_(1.01)
    network.save_pretrained(folder)
    return folder


def test_a_single_pair_keeps_no_record_unless_asked_to(folder: Path, run) -> None:
    assert run("l/0.png", "r/0.png")[0] == 0
    assert not Path("out/predict.jsonl").exists()
    for done in ("1 pairs", "0 pairs"):
        out = run("l/0.png", "r/0.png", "--skip-existing")[1]
        assert ("disparity " in out) == (done == "1 pairs")


def test_a_pair_that_breaks_in_the_middle_is_named_after_those_before(folder: Path, run) -> None:
    # Headers are whole, pixels are not: that shows when it is read.
    array = np.random.default_rng(0).random((HEIGHT, WIDTH), np.float32)
    for side in ("l", "r"):
        Path(side, "2.png").unlink()
        np.save(Path(side, "2.npy"), array)
    data = Path("r/2.npy").read_bytes()
    array[3, 4] = np.nan
    np.save(Path("r/2.npy"), array)
    assert len(Path("r/2.npy").read_bytes()) == len(data)
    status, out, err = run("l", "r")
    assert status == 2
    assert re.fullmatch(r"crosspol predict: r/2\.npy: got 1 NaN .*\n", err)
    assert [line.split()[0] for line in out.splitlines() if "disparity " in line] == ["l/0.png", "l/1.png"]
    status, out, err = run("l", "r", "--skip-existing", "--on-bad", "skip")
    assert status == 0
    assert re.fullmatch(r"crosspol predict: warning: passed over: r/2\.npy: got 1 NaN .*\n", err)
    assert out.splitlines()[-1].endswith("2 were complete already, 1 passed over")
    assert Path("out/3_disparity.npy").exists()


def test_an_error_without_a_file_gets_the_pairs_name(folder: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    only_after(monkeypatch, 1, FloatingPointError("the network's disparity is not finite at 3 pixels"))
    status, _, err = run("l", "r")
    assert status == 1
    assert err == "crosspol predict: failed: l/1.png with r/1.png: the network's disparity is not finite at 3 pixels\n"


def test_pairs_are_not_read_twice(folder: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
    from crosspol.io import images

    read, seen = images.read_bytes, []

    def noting(path: Path) -> bytes:
        seen.append(str(path))
        return read(path)

    monkeypatch.setattr(images, "read_bytes", noting)
    assert run("l", "r")[0] == 0
    assert sorted(seen) == sorted(f"{side}/{index}.png" for side in "lr" for index in range(4))


# Videos


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()


def test_two_videos(folder: Path, run) -> None:
    lefts = [smooth(index) for index in range(3)]
    rights = [np.roll(frame, -2, axis=1) for frame in lefts]
    write_video(folder / "film_l.mkv", lefts)
    write_video(folder / "film_r.mkv", rights)
    status, out, err = run("film_l.mkv", "film_r.mkv")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "3 pairs: film_l.mkv with film_r.mkv, frame by frame"
    assert "film_l.mkv with film_r.mkv, frame 2: disparity " in out
    for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        # FFV1 loses nothing but what another color space rounds.
        write_image(folder / "a.png", left)
        write_image(folder / "b.png", right)
        found = read_disparity(f"out/film_l_{index + 1:06d}_disparity.npy")
        assert run("a.png", "b.png")[0] == 0
        assert np.abs(found - read_disparity("out/a_disparity.npy")).mean() < 0.2
    # A run over a video is taken up as one over files is.
    Path("out/film_l_000002_disparity.npy").unlink()
    _, out, _ = run("film_l.mkv", "film_r.mkv", "--skip-existing")
    assert [line.partition(":")[0] for line in out.splitlines()[1:-1] if "disparity " in line] == [
        "film_l.mkv with film_r.mkv, frame 2"
    ]


def test_both_views_in_one_video_or_image(folder: Path, run) -> None:
    frames = [smooth(index) for index in range(2)]
    both = [np.concatenate([frame, np.roll(frame, -2, axis=1)], axis=1) for frame in frames]
    write_video(folder / "both.mkv", both)
    assert run("both.mkv", "--side-by-side")[0] == 0
    assert read_disparity("out/both_000002_disparity.npy").shape == frames[0].shape[:2]
    write_image(folder / "both.png", both[0])
    assert run("both.png", "--side-by-side")[0] == 0
    write_image(folder / "a.png", frames[0])
    write_image(folder / "b.png", np.roll(frames[0], -2, axis=1))
    assert run("a.png", "b.png")[0] == 0
    np.testing.assert_array_equal(read_disparity("out/both_disparity.npy"), read_disparity("out/a_disparity.npy"))


def test_videos_that_do_not_fit_are_refused_in_one_line(folder: Path, run) -> None:
    frames = [smooth(index) for index in range(6)]
    write_video(folder / "six.mkv", frames)
    write_video(folder / "five.mkv", frames[:5])
    write_video(folder / "wide.mkv", [np.concatenate([frame, frame], axis=1) for frame in frames])
    write_video(folder / "odd.avi", frames)
    (folder / "text.mp4").write_text("no video\n")
    for arguments, says in {
        ("six.mkv", "five.mkv"): r"five\.mkv: got 5 frames, wanted 6 as in six\.mkv",
        ("six.mkv", "wide.mkv"): r"wide\.mkv: got \d+x40 px, wanted \d+x40 px as in six\.mkv",
        ("six.mkv", "l"): r"l: got a path that is no video's, wanted a video",
        ("six.mkv", "text.mp4"): r"text\.mp4: got 9 bytes that are no video, wanted a video",
        ("six.mkv", "none.mp4"): r"none\.mp4: no such file",
        ("six.mkv", "five.mkv", "--rig", "rig.yaml"): r"--rig: got rig\.yaml beside a video",
        ("six.mkv", "five.mkv", "--side-by-side"): r"--side-by-side: got five\.mkv for the right view",
        ("six.mkv",): r"missing RIGHT",
        ("l/0.png", "r/0.png", "--warm-iters", "2"): r"--warm-iters: got 2, wanted --warm-start beside it",
        ("l/0.png", "r/0.png", "--save-polarization"): r"--save-polarization: got no polarization, wanted --rig",
    }.items():
        status, _, err = run(*arguments)
        assert status == 2, arguments
        assert err.count("\n") == 1
        assert re.search(says, err), err
        assert not Path("out").exists()


def test_a_video_that_is_cut_off_is_named_after_its_frames(folder: Path, run) -> None:
    frames = [picture(index) for index in range(8)]
    for name in ("a.mkv", "b.mkv"):
        write_video(folder / name, frames)
    data = Path("b.mkv").read_bytes()
    Path("b.mkv").write_bytes(data[: len(data) // 2])
    status, out, err = run("a.mkv", "b.mkv")
    assert status == 2
    done = sum("disparity " in line and line[0] == "a" for line in out.splitlines())
    assert 1 <= done < 8
    assert err.splitlines()[0].endswith(
        "both views are the same image: one view has no depth: disparity is 0, or made up (crosspol doctor tells more)"
    )
    assert err.splitlines()[1:] == [
        f"crosspol predict: a.mkv: got more than {done} frames, wanted {done} as in b.mkv, which ends there"
    ]
    # Both cut off at the same place: the header knows better.
    Path("a.mkv").write_bytes(Path("b.mkv").read_bytes())
    status, _, err = run("a.mkv", "b.mkv")
    assert status == 2
    assert re.search(rf"a\.mkv: got {done} frames, wanted 8 as its header says: it is cut off, or frames in it", err)


# Polarization, precision


def test_images_of_polarization_with_a_rig(folder: Path, run) -> None:
    for side, light in zip(("left", "right"), views(), strict=True):
        write_image(folder / f"{side}.png", eight_bits(raw_frame(light)))
    default_rig("quad").write("rig.yaml")
    assert run("left.png", "right.png", "--rig", "rig.yaml", "--save-polarization")[0] == 0
    height, width = read_image("left.png").shape[:2]
    for kind in ("dolp", "aolp"):
        assert read_image(f"out/left_{kind}.png").shape[0] == height
        assert read_image(f"out/left_{kind}.png").shape[1] > width
    assert read_image("out/left_s0.png").shape == (height, width, 3)


def test_folders_of_raw_frames(folder: Path, run) -> None:
    keys = "pixel_format: null", "width: null", "height: null"
    values = "pixel_format: Mono8", f"width: {WIDTH - WIDTH % 2}", f"height: {HEIGHT - HEIGHT % 2}"
    text = default_rig("quad").write("rig.yaml").read_text()
    for key, value in zip(keys, values, strict=True):
        assert key in text
        text = text.replace(key, value, 1)
    Path("rig.yaml").write_text(text)
    size = (HEIGHT - HEIGHT % 2) * (WIDTH - WIDTH % 2)
    for side in ("left", "right"):
        Path(side).mkdir()
        for index in range(2):
            noise = np.random.default_rng(index).integers(1, 255, size, dtype=np.uint8)
            Path(f"{side}/{index}.raw").write_bytes(noise.tobytes())
    status, _, err = run("left", "right")
    assert status == 2
    assert re.search(r"left: got a folder without images, wanted \.png", err)
    status, _, err = run("left/0.raw", "right/0.raw")
    assert status == 2
    assert re.search(r"left/0\.raw: got a raw frame, wanted --rig beside it", err)
    status, out, err = run("left", "right", "--rig", "rig.yaml")
    assert status == 0, err
    assert re.search(r"^2 pairs in", out, re.MULTILINE)


def test_images_of_polarization_with_given_maps(folder: Path, run) -> None:
    dolp = np.zeros((HEIGHT, WIDTH), np.float32)
    dolp[:, 20:] = 0.4
    dolp[:10] = np.nan
    np.save("dolp.npy", dolp)
    assert run("l/0.png", "r/0.png", "--polarization-left", "dolp.npy", "--save-polarization")[0] == 0
    image = read_image("out/0_dolp.png")[:, :WIDTH]
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 3
    assert (image[:10] == 128).all()
    assert not Path("out/0_aolp.png").exists()


@pytest.mark.parametrize("computed", [True, False])
def test_precision_that_is_emulated_is_warned_about(
    folder: Path, run, monkeypatch: pytest.MonkeyPatch, computed: bool
) -> None:
    monkeypatch.setattr(
        predict_module, "computes", lambda precision, device: computed or precision not in ("bfloat16", "float16")
    )
    used = []
    load = StereoPredictor.from_pretrained.__func__  # type: ignore[attr-defined]

    def noting(cls: type[StereoPredictor], *arguments: object, **named: object) -> StereoPredictor:
        used.append(named["precision"])
        found: StereoPredictor = load(cls, *arguments, **named)
        return found

    monkeypatch.setattr(StereoPredictor, "from_pretrained", classmethod(noting))
    status, _, err = run("l/0.png", "r/0.png", "--precision", "bfloat16")
    assert status == 0
    assert (err == "") == computed
    if not computed:
        assert "--precision bfloat16: this device (cpu) does not compute it but emulates it" in err
    assert run("l/0.png", "r/0.png", "--precision", "auto")[2] == ""
    assert used == ["bfloat16", "bfloat16" if computed else "float32"]


def test_the_record_is_readable_by_others(folder: Path, run) -> None:
    assert run("l", "r")[0] == 0
    lines = [json.loads(line) for line in Path("out/predict.jsonl").read_text().splitlines() if line]
    assert lines[0]["settings"]["iters"] == 1
    assert [line["pair"] for line in lines[1:]] == ["0", "1", "2", "3"]
    assert {name for name, _, _ in lines[1]["outputs"]} == {
        f"0_disparity{end}" for end in (".pfm", ".npy", ".png", "_color.png")
    }


def test_views_that_are_swapped_or_one_are_warned_about_once(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pair is predicted all the same, and nobody waits for a second look."""
    left, right = (cv2.resize(view, (160, 120)) for view in good_pair())
    for folder, pair in (("swapped", (right, left)), ("one", (left, left)), ("good", (left, right))):
        for side, view in zip(("left", "right"), pair, strict=True):
            for index in range(2):
                (tmp_path / folder / side).mkdir(parents=True, exist_ok=True)
                write_image(tmp_path / folder / side / f"{index}.png", view)
        folders = [str(tmp_path / folder / side) for side in ("left", "right")]
        options = ["--weights", str(weights), "--iters", "1", "--device", "cpu", "--output", str(tmp_path / "out")]
        assert main(["predict", *folders, *options]) == 0
        warnings = [line for line in capsys.readouterr().err.splitlines() if "doctor" in line]
        expected = {"swapped": "the views look swapped", "one": "both views are the same image"}
        assert len(warnings) == (folder in expected)
        if warnings:
            assert warnings[0].startswith(f"crosspol predict: warning: {folders[0]}/0.png with ")
            assert expected[folder] in warnings[0]


EVERY = {"disparity.pfm", "disparity.npy", "disparity.png", "disparity_color.png"}
"""What every pair gets."""


@pytest.fixture
def metric(folder: Path) -> tuple[str, str]:
    """Names a calibration of the folder's pairs."""
    values = {"fx": 60, "fy": 60, "cx_left": 26, "cx_right": 26, "cy": 20, "baseline_m": 0.1}
    (folder / "calib.json").write_text(json.dumps(values | {"width": WIDTH, "height": HEIGHT}))
    return "--calibration", "calib.json"


def test_results_of_an_earlier_run_are_never_mixed_with_new_ones(metric: tuple[str, str], run) -> None:
    """Depth of a run with a calibration stayed beside the disparity of one without."""

    def left() -> set[str]:
        return {path.name.partition("_")[2] for path in Path("out").glob("*_*")}

    assert run("l", "r", *metric)[0] == 0
    assert {"depth.npy", "cloud.ply", "calibration.json"} <= left()
    assert run("l", "r", *metric, "--no-cloud")[0] == 0
    assert "cloud.ply" not in left()
    assert run("l", "r")[0] == 0
    assert left() == EVERY


def test_a_single_pair_predicted_again_leaves_nothing_of_the_run_before(
    folder: Path, metric: tuple[str, str], run
) -> None:
    """Only results of its own name, in a folder of results: what may be somebody's own stays."""
    for name in ("in", "out"):
        Path(name).mkdir()
    files = [str(Path(f"{side[0]}/0.png").rename(f"in/{side}.png")) for side in ("left", "right")]

    def predicted(folder: str, *arguments: str) -> str:
        status, _, err = run(*files, "--output", folder, *arguments)
        assert status == 0
        return err

    def names(folder: str) -> set[str]:
        return {path.name for path in Path(folder).iterdir()}

    every = {f"left_{name}" for name in EVERY}
    # Beside no earlier result nothing is one.
    Path("out/left_occluded.png").write_bytes(b"mine")
    predicted("out")
    assert names("out") == every | {"left_occluded.png"}
    Path("out/left_occluded.png").unlink()
    # Of another name, of another kind, or a link.
    others = {"leftmost_depth.npy", "left_depth.txt", "left2_depth.png", "left.png"}
    for name in others:
        (Path("out") / name).write_bytes(b"mine")
    Path("out/left_confidence.png").symlink_to(Path("../calib.json"))
    others |= {"left_confidence.png"}
    predicted("out", *metric)
    assert {"left_depth.npy", "left_depth.png", "left_cloud.ply", "left_calibration.json"} <= names("out")
    assert "not of this run" not in predicted("out")
    assert names("out") == every | others
    assert Path("calib.json").is_file()
    # The folder of the input.
    predicted("in", *metric)
    before = names("in")
    warning = predicted("in")
    assert "in/left_depth.npy, " in warning
    assert "not of this run, and left, as input is in the folder too" in warning
    assert names("in") == before
