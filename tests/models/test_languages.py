"""Codes of one language in several styles."""

import pytest

from curate.models.languages import normalise, same_language


@pytest.mark.parametrize("code", ["en", "eng", "eng_Latn", "EN", "en-GB"])
def test_every_style_of_english(code: str) -> None:
    assert normalise(code) == "en"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("zh", "cmn_Hani"),
        ("et", "ekk_Latn"),
        ("ar", "arb_Arab"),
        ("no", "nob_Latn"),
        ("ckb", "ckb_Arab"),
        ("he", "iw"),
    ],
)
def test_lid176_and_glotlid_agree(ours: str, theirs: str) -> None:
    assert same_language(ours, theirs)


def test_different_languages_stay_apart() -> None:
    assert not same_language("nn", "nob_Latn")
    assert not same_language("azb", "az")  # South Azerbaijani has a label of its own in lid176


def test_als_is_alemannic_without_a_script_and_albanian_with_one() -> None:
    assert same_language("als", "gsw_Latn")
    assert same_language("als_Latn", "sq")
    assert not same_language("als", "als_Latn")
