"""Mappings on their way: from the folder, checked, into the store, and from there to every door."""
