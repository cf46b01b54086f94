"""Pages to look at in a browser: one HTML file each, which opens offline and asks nobody for anything."""
