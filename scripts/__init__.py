"""Tools of the repository: the documentation site, and what a release has to pass."""
