"""The rules of the worklist: patients, orders, actions, matching, MPPS. No network, no Redis."""
