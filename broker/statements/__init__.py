"""Documents that tenders ask for, made from the tables of the program and its configuration."""
