"""`broker doctor`: which hop fails, and what to do."""
