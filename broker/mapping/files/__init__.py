"""What a mapping file may say, and what it takes from those that it extends."""
