"""CrossPol."""
