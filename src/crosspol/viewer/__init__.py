"""The live view: pairs as they come, in a browser on this machine."""
