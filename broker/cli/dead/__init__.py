"""`broker dead`: what could not be applied or delivered, by cause, and what to do about it."""
