"""DOOR people ↔ us: health and metrics over HTTP."""
