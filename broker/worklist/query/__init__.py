"""What a query is answered: matching and return keys (PS3.4 C.2.2, K.6.1), and by which index."""
