"""From images to disparity: the predictor and the images of its results."""
