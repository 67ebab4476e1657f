"""The file a person writes: read with the place of every value, checked as a whole, overridden by flags, shipped."""
