"""Mapping files as text: YAML and CSV with places, slips in plain words."""
