"""Physically based polarized stereo with Mitsuba 3 (extra `render`): scenes, their pictures and their ground truth."""
