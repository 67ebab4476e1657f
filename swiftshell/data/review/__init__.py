"""Let people look at labelled answers one by one, keep what they say, and correct the data by it."""
