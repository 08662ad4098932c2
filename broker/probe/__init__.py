"""A pretend RIS and a pretend scanner that really speak HL7 and DICOM.

The demo, the self-test and the tests play with these actors.
"""
