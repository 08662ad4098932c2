"""A mapping file to rules; everything about it that is wrong is told at once."""
