"""What the whole package holds to, whichever room asks: sizes that are taken, of images and of files.

`docs/robustness.md` has them as a table.
"""

MINIMUM_SIDE = 32
"""Smallest height and width of an image that is read, drawn, rendered or shown to a network, px."""

MAXIMUM_PIXELS = 178_956_970
"""Largest image, px, all pages of its file together: above the largest sensors on sale (151 million), and where
Pillow begins to call a file a decompression bomb. Decoded, that is 1.4 GB in four channels of 16 bits."""

MAXIMUM_FILE_BYTES = 2 << 30
"""Largest file that is read into memory: the largest image in four channels of 16 bits fits, and is not compressed."""

DECODED_BYTES = 64 << 20
"""What a file may unpack to however small it is: 64 million pixels of a mask, of which a PNG takes 64 kB."""

DECODED_RATIO = 100
"""What a file may unpack to beyond that, times its own bytes: photographs unpack to 10 to 50 times theirs."""

YAML_BYTES = 200_000
"""Largest YAML file; PyYAML takes a second for more."""

CALIBRATION_BYTES = 1_000_000
"""Largest calibration file; one has a few thousand."""

JSON_BYTES = 64 << 20
"""Largest JSON file: the results of a hundred thousand scenes."""

TABLE_BYTES = 256 << 20
"""Largest table (CSV, JSON lines): a million rows. Largest log of a run: two hundred thousand records."""

LINE_BYTES = 1 << 20
"""Longest line of a log; a training's record has 1200 bytes."""

DEEPEST = 32
"""Levels of brackets, tags or lists within each other in a text file; a calibration has five."""

MOST_VALUES = 50_000
"""Values of a YAML file, counted again wherever an alias repeats them."""

LONGEST_NUMBER = 64
"""Digits of a number in a text file, its point and exponent counted; a number of 128 bits has 39."""
