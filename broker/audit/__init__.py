"""Audit messages of DICOM PS3.15 A.5: what happened, as XML, to a file or a syslog collector."""
