"""What is on disk and how it becomes samples: pictures, scenes, rigs, data sets."""
