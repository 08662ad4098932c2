"""The rules of the worklist: patients, orders, actions, matching, MPPS. No network, no Redis.

An order: `changes` is what a message asks for, `records` what is stored, `finding` what is read for
it, `apply` what comes of it. A query: `query`, and `profile` for what one AE gets. An exam: `mpps`,
`reconciling` for whose it is, `performing` for what becomes of the steps.
"""
