"""`broker run`: embedded Redis and one process per door, watched, restarted, stopped in order."""
