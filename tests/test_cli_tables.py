"""Text for terminals: what is escaped, how wide it is, and how it is laid out."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_persistent_session.cli.findings import clock, version
from aiohttp_persistent_session.cli.tables import fit, hanging, pairs, printable, table, width


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_a_terminal_could_obey_is_left(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(one) for one in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert printable(text, "ascii").isascii()


def test_what_can_be_shown_is_shown_as_it_is() -> None:
    assert printable("Zoë 日本 \U0001f36a C:\\x e\u0301") == "Zoë 日本 \U0001f36a C:\\x e\u0301"
    assert printable("\x1b[2J\u200b\U000e0001\ud800") == r"\x1b[2J\u200b\U000e0001\ud800"


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert [width(text) for text in ("", "abc", "日本", "e\u0301", "\U0001f36a", "\uff46")] == [0, 3, 4, 1, 2, 2]


@given(st.text(), st.integers(2, 40))
def test_what_is_cut_fits_and_begins_alike(text: str, columns: int) -> None:
    shown = fit(printable(text), columns)
    assert width(shown) <= columns
    assert printable(text).startswith(shown.removesuffix(".."))
    assert shown == printable(text) or shown.endswith("..")


def test_columns_are_in_line_whatever_the_characters() -> None:
    lines = list(table(("A", "B", "C"), [("日本", "x", "1"), ("a", "e\u0301e", "2")], None))
    assert lines == ["A     B   C", "日本  x   1", "a     e\u0301e  2"]
    assert list(table(("A", "B"), [], 80)) == ["A  B"]


def test_the_last_column_is_cut_and_a_table_that_is_too_wide_becomes_blocks() -> None:
    rows = [("x" * 20, "y" * 60), ("x" * 20, "")]
    assert list(table(("A", "B"), rows, 50))[1] == f"{'x' * 20}  {'y' * 26}.."
    assert list(table(("A", "B"), rows, 30)) == [
        f"A  {'x' * 20}",
        f"B  {'y' * 25}..",
        "",
        f"A  {'x' * 20}",
        "B",
    ]


def test_pairs_and_paragraphs_are_in_line() -> None:
    assert list(pairs([("id", "1"), ("user", "")], None)) == ["id    1", "user"]
    assert list(hanging("fault", ["one two three four", "five"], 25, 9)) == [
        "fault    one two three",
        "         four",
        "         five",
    ]
    assert list(hanging("ok", ["one two three four"], None, 9)) == ["ok       one two three four"]


@pytest.mark.parametrize(
    ("difference", "severity"),
    [(0, "ok"), (1.9, "ok"), (-1.9, "ok"), (2.1, "warning"), (-9.9, "warning"), (10.1, "fault"), (-3600, "fault")],
)
def test_clocks_that_differ_are_judged_by_how_much(difference: float, severity: str) -> None:
    found = clock(difference)
    assert (found.severity, found.code) == (severity, "clock")
    if severity != "ok":
        assert ("ahead of ours" if difference > 0 else "behind ours") in found.text
        assert "NTP" in found.advice


def test_versions_are_judged_by_their_first_number() -> None:
    assert version("Redis", "6.2.1", 7).severity == "fault"
    assert version("Redis", "7.0.0", 7).severity == "ok"
    assert version("PostgreSQL", "17.2 (Debian 17.2-1)", 12).severity == "ok"
    assert version("Redis", "", 7).severity == "note"
