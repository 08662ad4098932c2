"""The door of the RIS: HL7 orders over MLLP in, acknowledgements out."""
