"""Everything an integrator can say: files become rules, and rules with a message a change."""
