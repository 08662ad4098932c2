"""HL7 values to DICOM values: functions, tables, lengths; what they read and leave behind."""
