"""`broker map`: mapping files judged, tried, tested, compared, begun and put in force."""
