"""Numbers in files: images, disparity, EXR, whole writes."""
