"""Everything that another store needs to go on with our work: out of one, and into another."""
