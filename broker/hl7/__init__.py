"""Bytes to HL7 v2 messages and back; no socket, no clock."""
