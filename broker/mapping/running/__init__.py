"""Rules and a message make a change; quickly, and when watched, step by step."""
