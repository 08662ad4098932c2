"""DOOR scanner ↔ us: C-ECHO, worklist C-FIND and MPPS over DICOM."""
