"""Work with rows: detect, convert, check and judge them, without any engine."""
