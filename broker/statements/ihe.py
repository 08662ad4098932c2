"""The IHE integration statement: which transactions are played, and by what that is tested."""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.statements.document import Document, Section


class Played(NamedTuple):
    """One transaction: of which actor, what is done, and the files of tests that play it."""

    transaction: str
    actor: str
    what: str
    tests: tuple[str, ...]


PLAYED: Final = (
    Played(
        "RAD-2 Placer Order Management",
        "DSS/Order Filler",
        "ORM^O01 and OMG^O19 are received (NW, CA, DC …)",
        ("tests/doors/test_order_control.py", "tests/doors/test_statements_hl7.py"),
    ),
    Played(
        "RAD-3 Filler Order Management",
        "DSS/Order Filler",
        "ORM^O01 or OMG^O19 with SC and ORC-5 IP, CM, DC is sent",
        ("tests/doors/test_round_trip.py", "tests/updates/test_drain.py"),
    ),
    Played(
        "RAD-4 Procedure Scheduled",
        "as its receiver",
        "ORM^O01 with ZDS and OMI^O23 are received",
        ("tests/doors/test_orders_to_scanner.py", "tests/doors/test_scheduling.py"),
    ),
    Played(
        "RAD-5 Query Modality Worklist",
        "DSS/Order Filler",
        "C-FIND is answered",
        ("tests/modality/test_findscu.py", "tests/modality/test_statements.py"),
    ),
    Played(
        "RAD-6, RAD-7 Modality Procedure Step In Progress, Completed",
        "DSS/Order Filler",
        "N-CREATE and N-SET are taken, and sent on to other SCPs where configured",
        ("tests/modality/test_mpps_statements.py", "tests/updates/test_forwarding.py"),
    ),
    Played(
        "RAD-12 Patient Update",
        "DSS/Order Filler",
        "ADT^A08, A31, A40 and others are received",
        ("tests/doors/test_patients.py",),
    ),
    Played(
        "RAD-13 Procedure Update",
        "as its receiver",
        "changes (XO) and cancels (CA, DC) are received",
        ("tests/doors/test_newest_word.py", "tests/doors/test_order_control.py"),
    ),
    Played(
        "RAD-48 Appointment Notification",
        "as its receiver",
        "SIU^S12, S13, S14, S15, S17, S26 are received",
        ("tests/doors/test_scheduling.py",),
    ),
)


def statement(version: str) -> Document:
    """Give the statement; peers in tests are DCMTK, pynetdicom and python-hl7."""
    return Document(
        f"IHE Integration Statement: Worklist broker {version}",
        (
            Section(
                "What it is worth",
                (
                    "**Not Connectathon-tested.** The broker plays the transactions below in the "
                    "profile Scheduled Workflow (SWF, SWF.b) and, for patients that are known "
                    "later, Patient Information Reconciliation (PIR). Nobody but its own tests, "
                    "with independent programs as peers, has looked at that.",
                ),
            ),
            Section(
                "Transactions",
                (),
                ("Transaction", "Actor", "What", "Tested by"),
                tuple((*each[:3], ", ".join(each.tests)) for each in PLAYED),
            ),
            Section(
                "What it does not play",
                (
                    "Image Manager, Performed Work Status Update "
                    "(RAD-42), Instance Availability Notification (RAD-49), ATNA Secure Node "
                    "(syslog and TLS are there, node authentication as a whole is not tested).",
                ),
            ),
        ),
    )
