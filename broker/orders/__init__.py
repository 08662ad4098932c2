"""DOOR RIS → us: HL7 orders over MLLP in, acknowledgements out."""
