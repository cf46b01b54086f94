"""What the command line can do: one module a command, each with its options and the function that carries them out."""
