"""Functions of dates and times."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from broker.mapping.values.evaluation import Evaluation
from broker.mapping.values.timestamps import date_of, of_next_day, offset_text, time_of, to_zone
from broker.worklist.changes import FILLS_GAPS


def date(evaluation: Evaluation, text: str) -> str:
    """A complete and possible day as YYYYMMDD; everything else is absent: no day is invented."""
    day = date_of(text)
    if not day:
        evaluation.warn("is not a complete date")
    return day


def time(evaluation: Evaluation, text: str, *unknown: str) -> str:
    moment = time_of(text)
    if moment or not unknown or not date_of(text):
        return moment
    evaluation.rank = FILLS_GAPS
    return unknown[0]


def local(evaluation: Evaluation, text: str, zone: ZoneInfo | None = None) -> str:
    moved = to_zone(text, zone or evaluation.message_zone, evaluation.site_zone)
    if not moved:
        evaluation.warn("is not a date and time")
    return moved


def moment(evaluation: Evaluation, text: str) -> str:
    text = of_next_day(text)
    day, clock = date_of(text), time_of(text)
    if not day:
        evaluation.warn("is not a complete date")
        return ""
    return day + clock + (offset_text(text, evaluation.message_zone) if clock else "")


def zone(evaluation: Evaluation, text: str) -> str:
    return offset_text(text, evaluation.message_zone)
