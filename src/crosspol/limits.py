"""What the whole package holds to, whichever room asks."""

MINIMUM_SIDE = 32
"""Smallest height and width of an image that is read, drawn, rendered or shown to a network, px."""
