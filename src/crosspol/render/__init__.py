"""Physically based polarized stereo with Mitsuba 3 (extra `render`): scenes, their images and their ground truth."""
