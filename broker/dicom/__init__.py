"""Bytes ↔ DIMSE: PDUs, association negotiation, messages and identifiers. No socket, no clock."""
