"""HL7 orders in, DICOM modality worklist out, MPPS back as HL7 status messages."""
