"""Mappings proved on messages: tried, compared, covered, explained, begun."""
