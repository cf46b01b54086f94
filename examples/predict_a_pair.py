"""From arrays to files: a stereo pair with polarization, the weights that ship, and what polarization changed."""

from pathlib import Path

import numpy as np

import crosspol
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_folder import SceneFolder

# Yours: a rectified pair, and a map of polarization for each view. Here: a rendered room.
room = SceneFolder(sample_rooms(), rig="quad", pol_channels=3)[0]
left, right, pol_left, pol_right, valid_left, valid_right = (
    tensor.permute(1, 2, 0).numpy()
    for tensor in (room.left, room.right, room.pol_left, room.pol_right, room.valid_left, room.valid_right)
    if tensor is not None
)
predictor = crosspol.StereoPredictor.from_pretrained("crosspol")
result = predictor.predict(
    left,  # (H, W, 3) in [0, 1]
    right,
    polarization_left=pol_left,  # (H, W, 3): S1/S0, S2/S0, DoLP; of the weights `blueprint` (H, W): DoLP
    polarization_right=pol_right,
    valid_left=valid_left,  # (H, W), nonzero = valid
    valid_right=valid_right,
)
print(f"disparity {result.disparity.shape}, {np.percentile(result.disparity, [5, 50, 95]).round(1)} px (5, 50, 95 %)")
if result.polarization_use is not None:
    print(f"polarization changed the features by {100 * result.polarization_use.mean():.2f} % on average")
for path in result.save(Path("example-output"), "pair"):
    print("wrote", path)
