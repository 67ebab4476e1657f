"""WHAT can be done: one light module per stage (pydantic only), found by name through `registry`."""
