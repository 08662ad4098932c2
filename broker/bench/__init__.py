"""What the broker can do, measured beside other programs. Nothing here knows how it does it."""
