"""Facts about this machine, never guesses: what was found, and where it was found."""
