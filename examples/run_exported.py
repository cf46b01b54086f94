"""An exported network with NumPy and ONNX Runtime alone: python run_exported.py network.onnx pair.npz disparity.npy

pair.npz holds what the file asks for by name: images (H, W, 3) as uint8 or in [0, 1], maps (H, W) or (H, W, P).
"""

import sys

import numpy as np
import onnxruntime

model, pair, output = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
arrays = {name: np.atleast_3d(array) for name, array in np.load(pair).items()}
floats = {name: array / np.float32(255 if array.dtype == np.uint8 else 1) for name, array in arrays.items()}
inputs = {i.name: floats[i.name].transpose(2, 0, 1)[None].astype(np.float32) for i in session.get_inputs()}
disparity = session.run(["disparity"], inputs)[0][0, 0]
np.save(output, disparity)
print(
    f"{session.get_modelmeta().custom_metadata_map['crosspol.sign']}; {disparity.min():.2f} to {disparity.max():.2f} px"
)
