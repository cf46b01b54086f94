"""An exported network with NumPy and ONNX Runtime alone: python run_exported.py network.onnx pair.npz disparity.npy

pair.npz holds what the file asks for by name: images (H, W, 3) as uint8 or in [0, 1], maps (H, W) or (H, W, P).
docs/export.md shows how to make one.
"""

import sys

import numpy as np
import onnxruntime

model, pair, output = sys.argv[1:] if len(sys.argv) == 4 else sys.exit(__doc__)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
wanted = [i.name for i in session.get_inputs()]
maps = {name: np.atleast_3d(array).transpose(2, 0, 1)[None] for name, array in np.load(pair).items()}
if missing := [name for name in wanted if name not in maps]:
    sys.exit(f"{pair}: got {', '.join(maps)}, wanted {', '.join(missing)} as well")
inputs = {name: np.float32(maps[name]) / (255 if maps[name].dtype == np.uint8 else 1) for name in wanted}
disp = session.run(["disparity"], inputs)[0][0, 0]
np.save(output, disp)
print(session.get_modelmeta().custom_metadata_map["crosspol.sign"] + f"; {disp.min():.2f} to {disp.max():.2f} px")
