"""What is wrong with a pair, a rig or a calibration, in words: the checks of `crosspol rig check` and `doctor`."""
