"""What cameras write, and how it becomes rectified frames: rigs, recordings, calibrations."""
