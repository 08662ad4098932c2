"""TLS: files to contexts that follow their files, handshakes with a deadline, names of peers."""
