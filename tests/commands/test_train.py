from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands.train import BLUEPRINT, TrainOptions
from crosspol.training.config import train_preset
from crosspol.training.config_file import flat, write_config
from crosspol.training.run_folder import RunFolder
from crosspol.training.run_log import RunLog, read_runs
from crosspol.visualization.curves import CURVES, series, smoothed
from tests.training.tiny_runs import tiny_config

TINY = [
    "--preset", "cpu-tiny", "--num-steps", "2", "--feature-dim", "16", "--hidden-dim", "16", "--pol-dim", "16",
    "--data.size", "64x32", "--data.procedural.layers", "1", "2",
    "--validate-samples", "1", "--machine.accelerator", "cpu",
    "--machine.workers", "0",
    "--no-tensorboard",
]  # fmt: skip


def parse(*arguments):
    return TrainOptions.parse("crosspol train", ["--output", "x", *arguments]).training


def test_flags_count_before_the_file_and_the_file_before_the_preset(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"lr": 0.5, "iters": 7}))
    config = parse("--preset", "cpu-tiny", "--config", str(path), "--iters", "9")
    preset = train_preset("cpu-tiny")
    assert (config.lr, config.iters, config.num_steps) == (0.5, 9, preset.num_steps)
    assert config.data == preset.data


def test_every_hyperparameter_of_the_blueprint_is_a_flag_under_its_name():
    config = parse(
        "--pretrained", "none", "--pol-dim", "64", "--pol_threshold", "0.1", "--pol-weight", "1", "--glass-weight=3",
        "--pol-lr-mult", "4", "--hidden-dim", "32", "--context-dim", "48", "--feature-dim", "64", "--iters", "5",
        "--batch-size", "2", "--num-steps", "70", "--lr", "1e-4", "--num-heads", "2", "--pool-size", "4",
        "--alpha-cap-start", "0.1", "--alpha-cap-warmup", "9", "--enable-stereo-to-pol",
    )  # fmt: skip
    network = config.network
    assert (network.polarization.pol_dim, network.polarization.pol_threshold) == (64, 0.1)
    assert (network.hidden_dim, network.context_dim, network.feature_dim) == (32, 48, 64)
    attention = network.fusion.attention
    assert (attention.num_heads, attention.pool_size, network.fusion.enable_stereo_to_pol) == (2, 4, True)
    assert (config.pretrained, config.pol_weight, config.glass_weight, config.pol_lr_mult) == ("none", 1.0, 3.0, 4.0)
    assert (config.iters, config.batch_size, config.num_steps, config.lr) == (5, 2, 70, 1e-4)
    assert (config.alpha_cap_start, config.alpha_cap_warmup) == (0.1, 9)
    assert not parse("--enable-stereo-to-pol", "--no-enable-stereo-to-pol").network.fusion.enable_stereo_to_pol


def test_the_names_of_the_blueprint_are_all_there_and_other_short_names_are_told_in_full(tmp_path, capsys):
    config = flat(train_preset("blueprint"))
    for name in BLUEPRINT:
        assert sum(setting.rpartition(".")[2] == name for setting in config) == 1
    for short, full in (("--devices", "--machine.devices"), ("--null-key", "--network.fusion.attention.null-key")):
        assert main(["train", "--output", str(tmp_path / "run"), short, "2"]) == 2
        said = capsys.readouterr().err
        assert "Unrecognized options" in said
        assert full in said
        assert said.count("\n") == 1


def test_sizes_are_width_x_height_for_people_and_height_width_in_files(tmp_path, capsys):
    assert parse("--data.size", "96x64").data.size == (64, 96)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"data": {"size": [48, 80]}, "stages": [{"until": 0.5, "size": [32, 64]}]}))
    config = parse("--config", str(path), "--stages.0.size", "128x32")
    assert (config.data.size, config.stages[0].size) == ((48, 80), (32, 128))
    assert main(["train", "--help"]) == 0
    assert "--data.size WxH" in capsys.readouterr().out


def test_the_file_of_a_run_gives_its_configuration(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(write_config(tiny_config()))
    assert parse("--config", str(path)) == tiny_config()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--output"),
        (["--output", "{}/run"], "raftstereo-sceneflow.pth: no such file"),
        (["--output", "{}/run", "--lr", "-1"], "lr: got -1.0, wanted more than 0"),
        (["--output", "{}/run", "--preset", "huge"], "huge"),
        (["--output", "{}/run", "--pol-dimension", "3"], "--pol-dimension"),
        (["--output", "{}/run", "--config", "{}/none.yaml"], "none.yaml: no such file"),
        (["--output", "{}/run", "--precision", "float8"], "float8"),
        (["--output", "{}/run", "--pretrained", "none", "--batch-size", "0"], "batch_size: got 0"),
        (["--output", "{}/run", "--data.size", "96"], "--data.size: got '96', wanted WIDTHxHEIGHT, such as 640x480"),
        (["--output", "{}/run", "--data.size", "96x31"], "--data.size: got '96x31', wanted at least 32x32 px"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(tmp_path, capsys, arguments, complaint):
    status = main(["train", *(argument.format(tmp_path) for argument in arguments)])
    said = capsys.readouterr()
    assert status == 2
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "run").exists()


def test_a_run_and_its_curves_from_the_command_line(tmp_path, capsys):
    assert main(["train", "--output", str(tmp_path / "a"), *TINY]) == 0
    assert (tmp_path / "a" / "weights" / "model.safetensors").exists()
    assert main(["train", "--output", str(tmp_path / "a"), *TINY, "--lr", "1e-5"]) == 2
    assert "lr: 0.0003 before, 1e-05 now" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "a"), "--output", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_run_is_one_line_and_status_1(tmp_path):
    # Weights that explode in the first step, in a process of its own: what counts is what a shell sees.
    command = [sys.executable, "-m", "crosspol.cli", "train", "--output", str(tmp_path / "a"), *TINY]
    command += ["--lr", "1e30", "--gradient-clip", "1e30", "--max-skipped", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "not finite" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("crosspol train: failed: step ")
    assert "Traceback" not in done.stderr


def written(folder, losses):
    folder.mkdir(parents=True)
    run_log = RunLog(RunFolder(folder), 0, tensorboard=False)
    for step, loss in enumerate(losses, 1):
        run_log.write({"step": step, "loss": loss, "lr": {"backbone": 0.1 * step}})
    run_log.close()
    return folder


def test_curves_read_what_the_run_log_has(tmp_path):
    runs = read_runs([written(tmp_path / "a", [1.0, float("nan"), 3.0]), written(tmp_path / "b", [2.0])])
    steps, values = series(runs["a"], CURVES[0])
    assert (steps.tolist(), values.tolist()) == ([1, 3], [1.0, 3.0])
    assert list(runs) == ["a", "b"]


def test_smoothing_is_the_mean_around_each_value():
    values = [float(i * i % 17) for i in range(60)]
    found = smoothed(np.array(values), share=0.1)
    for index, value in enumerate(found):
        window = values[max(0, index - 3) : index + 4]
        assert value == pytest.approx(sum(window) / len(window))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{}/absent"], "log.jsonl: no such file"),
        (["{}/a", "--output", "{}/a.pdf"], "ends in .png"),
        (["{}/a", "{}/a"], "the same run twice"),
        (["{}/empty"], "no record yet"),
    ],
)
def test_plot_refuses_in_one_line(tmp_path, capsys, arguments, complaint):
    written(tmp_path / "a", [1.0])
    written(tmp_path / "empty", [])
    assert main(["plot", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert complaint in capsys.readouterr().err
