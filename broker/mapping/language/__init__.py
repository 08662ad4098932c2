"""Expressions, conditions and paths: their grammar, and the closures they become."""
