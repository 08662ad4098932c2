"""The only room that knows Redis: keys, one commit, reads, outbox, archive, the embedded server."""
