"""Plain nested values by DICOM keyword ↔ pydicom data sets."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue

Attributes = dict[str, Any]

_BINARY_NUMBERS = {"US", "SS", "UL", "SL"}


def to_dataset(attributes: Attributes) -> Dataset:
    """Plain nested values → a pydicom data set; text outside ASCII is announced as ISO_IR 192.

    Raises ValueError for a name that is no DICOM keyword.
    """
    dataset = _nested(attributes)
    if "SpecificCharacterSet" not in attributes and not str(attributes).isascii():
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _nested(attributes: Attributes) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        if tag_for_keyword(keyword) is None:
            raise ValueError(f"'{keyword}' is no DICOM keyword")
        setattr(dataset, keyword, _element_value(dictionary_VR(keyword), value))
    return dataset


def _element_value(vr: str, value: Any) -> Any:
    if vr == "SQ":
        return [_nested(item) for item in value or []]
    if value in ("", []):
        return None
    return int(value) if vr in _BINARY_NUMBERS else value


def to_values(dataset: Dataset) -> Attributes:
    """A pydicom data set → plain nested values; empty is '', elements without keyword left out."""
    return {
        element.keyword: _plain(element.value, is_sequence=element.VR == "SQ")
        for element in dataset
        if element.keyword
    }


def _plain(value: Any, *, is_sequence: bool) -> Any:
    if is_sequence:
        return [to_values(item) for item in value]
    if value is None:
        return ""
    if isinstance(value, (MultiValue, list)):
        return [str(part) for part in value]
    return str(value)
