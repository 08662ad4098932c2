"""`broker bench`: throw-away brokers under load, beside other programs in the same run."""
