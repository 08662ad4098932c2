"""The only room that knows Redis: keys, one commit, reads, outbox, archive, the embedded server.

`call` is what may be asked, `executors` ask it, `commit` is the one way to write, `reads` what is
read for it. `server` is our own Redis; `external`, `sentinels` and `clients` are for one of others.
`scripts` run within Redis, each whole; `call.script` reads them.
"""
