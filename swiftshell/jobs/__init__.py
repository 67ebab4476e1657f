"""Start, follow, stop and resume runs, and say from the files alone what happened to them."""
