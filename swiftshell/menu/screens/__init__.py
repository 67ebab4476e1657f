"""One file a screen: a function that takes the session, asks, acts, and returns to whoever called it."""
