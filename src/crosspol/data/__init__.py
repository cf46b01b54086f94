"""Samples: what the network gets, the ground truth, and changes that know polarization."""
