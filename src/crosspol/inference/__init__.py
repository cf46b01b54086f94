"""From pictures to disparity: the predictor and the pictures of its results."""
