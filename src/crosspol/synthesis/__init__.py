"""Procedural scenes and virtual glass."""
