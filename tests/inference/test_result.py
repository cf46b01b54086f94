"""What a result holds, and the files that it is saved as."""

import numpy as np
import pytest

from crosspol.inference.outputs import OUTPUTS, Output
from crosspol.inference.result import StereoResult
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image


def test_saved_files_say_what_the_result_says(tmp_path):
    rng = np.random.default_rng(0)
    result = StereoResult(rng.uniform(0, 50, (40, 50)).astype(np.float32), np.full((40, 50), 0.1, np.float32))
    written = result.save(tmp_path / "a" / "b", "scene")
    names = ["scene.pfm", "scene.png", "scene.npy", "scene_color.png", "scene_polarization_use.png"]
    assert [path.name for path in written] == names
    assert sorted((tmp_path / "a" / "b").iterdir()) == sorted(written)
    for name, tolerance in (("scene.pfm", 0), ("scene.npy", 0), ("scene.png", 1 / 256)):
        np.testing.assert_allclose(read_disparity(tmp_path / "a" / "b" / name), result.disparity, atol=tolerance)
    assert read_image(written[3]).shape[0] == 40


def test_batches_are_numbered_and_unused_polarization_has_no_image(tmp_path):
    use = np.zeros((2, 40, 50), np.float32)
    use[1] = 0.5
    result = StereoResult(np.stack([np.full((40, 50), value, np.float32) for value in (1, 2)]), use)
    names = {path.name for path in result.save(tmp_path)}
    kinds = (".pfm", ".png", ".npy", "_color.png")
    numbered = {f"disparity_{index:03d}{kind}" for index in range(2) for kind in kinds}
    assert names == numbered | {"disparity_001_polarization_use.png"}
    assert (read_disparity(tmp_path / "disparity_001.pfm") == 2).all()


def test_results_cannot_be_reassigned():
    result = StereoResult(np.zeros((40, 50), np.float32))
    with pytest.raises(AttributeError):
        result.disparity = None


def test_a_pair_of_a_batch_is_without_the_batch_axis():
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    result = StereoResult(maps, 10 * maps)
    second = result.pair(1)
    assert result.batched
    assert not second.batched
    np.testing.assert_array_equal(second.disparity, maps[1])
    assert second.polarization_use is not None
    np.testing.assert_array_equal(second.polarization_use, 10 * maps[1])
    with pytest.raises(IndexError, match="one pair already"):
        second.pair(0)
    with pytest.raises(IndexError):
        result.pair(2)


def test_every_kind_of_file_has_a_name_of_its_own():
    suffixes = [output.suffix for output in OUTPUTS]
    assert len(set(suffixes)) == len(suffixes)


def test_a_kind_of_file_that_does_not_apply_is_not_written(tmp_path):
    output = Output(".txt", lambda result: result.glass is not None, lambda result, path: path.write_text("glass"))
    result = StereoResult(np.zeros((40, 50), np.float32))
    assert output.write(result, tmp_path / "a.b") == []
    seen = StereoResult(result.disparity, glass=result.disparity)
    assert output.write(seen, tmp_path / "a.b") == [tmp_path / "a.b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.b.txt"]
