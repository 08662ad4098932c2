"""Scanner ↔ us: the DICOM door (C-ECHO, worklist C-FIND, MPPS)."""
