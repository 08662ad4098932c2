"""Soundex as the United States National Archives define it."""

from __future__ import annotations

import pytest

from broker.worklist.query.fuzzy import soundex, words


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("robert", "R163"),
        ("rupert", "R163"),
        ("ashcraft", "A261"),
        ("tymczak", "T522"),
        ("pfister", "P236"),
        ("honeyman", "H555"),
        ("lloyd", "L300"),
        ("lee", "L000"),
        ("王", ""),
        ("o'neil", ""),
        ("", ""),
    ],
)
def test_words_that_sound_alike_have_one_code(word: str, code: str) -> None:
    assert soundex(word) == code


def test_a_name_is_cut_at_whatever_parts_words() -> None:
    assert words("o'neil-smith^mary ann=王^小東") == (
        "o",
        "neil",
        "smith",
        "mary",
        "ann",
        "王",
        "小東",
    )
