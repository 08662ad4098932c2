"""A message from its bytes to the parts that somebody asks for."""

from broker.hl7.message.batches import batch, said_count
from broker.hl7.message.grouping import by_patient, groups
from broker.hl7.message.parsing import parse
from broker.hl7.message.segments import NULL, Group, Message, Repetition, Segment, Segments
from broker.hl7.message.syntax import Syntax

__all__ = [
    "NULL",
    "Group",
    "Message",
    "Repetition",
    "Segment",
    "Segments",
    "Syntax",
    "batch",
    "by_patient",
    "groups",
    "parse",
    "said_count",
]
