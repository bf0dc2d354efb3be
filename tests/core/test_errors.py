from hypothesis import given
from hypothesis import strategies as st

from oubliette.core.errors import UserError, shown, suggest, tidy


def test_suggest_names_the_nearest_and_lists_the_known():
    assert suggest("projct", ["sum", "project"]) == "did you mean 'project'? known: project, sum"


def test_suggest_ignores_case():
    assert suggest("DOCO", ["doco", "uce"]).startswith("did you mean 'doco'?")


def test_suggest_without_anything_near_only_lists():
    assert suggest("zzz", ["sum"]) == "known: sum"
    assert suggest("zzz", []) == "known: none"


def test_suggest_shortens_a_long_list():
    line = suggest("t", [f"tensor{i}" for i in range(1000)])
    assert "(1000 in all)" in line
    assert len(line) < 500


def test_a_message_s_quoted_texts_are_cut_and_its_other_words_are_not():
    said = (
        "the model's concept '"
        + "O'Brien " * 30
        + "' isn't known; the judge's words are 'a', 'b' and 'c'; " * 3
    )
    made = str(UserError(said))
    assert made.startswith("the model's concept 'O'Brien O'Brien ")
    assert made.count("…' isn't known; the judge's words are 'a', 'b' and 'c';") == 1
    plain = "the model's own words, which aren't quoted, and the tokenizer's, " * 3
    assert tidy(plain) == plain.strip()
    assert tidy("/" + "long/" * 50 + "path: gone") == "/" + "long/" * 50 + "path: gone"


def test_controls_in_a_message_are_shown_escaped():
    assert tidy("no 'a\x1b[0m\nb\0' and\n  more") == r"no 'a\x1b[0m\nb\x00' and more"
    assert tidy("x\u202ey\udcff") == r"x\u202ey\udcff"
    assert shown("naïve 車") == "naïve 車"
    assert shown("a" * 81) == "a" * 79 + "…"


@given(st.text(max_size=400))
def test_a_tidied_message_is_one_printable_line_and_stays_as_it_is(text):
    line = tidy(f"no '{text}' here")
    assert line.isprintable()
    assert tidy(line) == line


@given(st.text(max_size=5))
def test_a_message_has_an_end(text):
    assert len(tidy(f"{text} '{text}" * 2000)) <= 2000
