"""What the tables of HL7 and DICOM know about names, types, terms and places."""
