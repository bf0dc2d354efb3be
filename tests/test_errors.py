from oubliette.errors import suggest


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
