"""How many processes each door has, and how their places are told."""

from broker.settings import Settings
from broker.supervising.doors import ROLES, instances, ready_line


def test_updates_is_a_dispatcher_and_a_worker_for_each_ris():
    two = "[{name: a, to: 'h:1'}, {name: b, to: 'h:2'}]"
    given = Settings.load(None, {"BROKER_RIS": two, "BROKER_HL7__PROCESSES": "3"})
    counts = {role: instances(given, role) for role in ROLES}
    assert counts == {"orders": 3, "modality": 1, "updates": 3, "console": 1}


def test_the_line_with_ready_lists_each_address_once():
    bound = [{"hl7": "a:1,b:2"}, {"hl7": "a:1,b:2"}, {"dicom": "c:3"}, {"updates": "sending"}]
    assert ready_line(bound) == "ready hl7=a:1,b:2 dicom=c:3"
