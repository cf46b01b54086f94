"""From arrays to files: a stereo pair with polarization, the weights that ship, and what polarization changed."""

from pathlib import Path

import numpy as np

import crosspol
from crosspol.commands.demo_scene import packaged_scene, read_scene

scene = read_scene(packaged_scene())  # yours: a rectified pair and a map of the degree of polarization for each view
predictor = crosspol.StereoPredictor.from_pretrained(precision="bfloat16", iters=12)
result = predictor.predict(
    scene.left,  # (H, W, 3) in [0, 1]
    scene.right,
    polarization_left=scene.polarization_left,  # (H, W) in [0, 1], NaN = not trusted
    polarization_right=scene.polarization_right,
)
print(f"disparity {result.disparity.shape}, {np.percentile(result.disparity, [5, 50, 95]).round(1)} px (5, 50, 95 %)")
if result.polarization_use is not None:
    print(f"polarization changed the features by {100 * result.polarization_use.mean():.2f} % on average")
for path in result.save(Path("example-output"), "pair"):
    print("wrote", path)
