"""How soon what ends is started again."""

from broker.supervising.pace import LONGEST_PAUSE_S, Pace


def test_what_ends_often_is_started_ever_later_but_always_again():
    pace = Pace()
    pauses = [pace.pause_s(now) for now in range(12)]
    assert pauses[:3] == [0, 0, 0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    assert pace.pause_s(1000.0) == 0
