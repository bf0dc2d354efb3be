from oubliette.core import progress as progress_module
from oubliette.core.progress import progress


def test_lines_with_the_time_left_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with progress("training", 10, "updates", done=2) as tick:
        for done in range(3, 11):
            now[0] += 6.0
            tick(done, f"loss {done}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "training: 3 of 10 updates, 42 s left, loss 3",
        "training: 6 of 10 updates, 24 s left, loss 6",
        "training: 9 of 10 updates, 6 s left, loss 9",
        "training: 10 of 10 updates, 0 s left, loss 10",
    ]


def test_short_work_and_disabled_progress_say_nothing(capsys):
    with progress("training", 3) as tick:
        tick(3, "")
    with progress("training", 3, enabled=False) as tick:
        tick(3, "")
    assert capsys.readouterr().err == ""


def test_a_phase_of_a_few_seconds_is_not_silent(capsys, monkeypatch):
    """Twenty seconds of preparing in two phases had no line at all where there is no terminal."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    for title in ("drawing anchor pictures", "drawing retain pictures"):
        with progress(title, 128, "pictures") as tick:
            for done in (32, 64, 96, 128, 128):
                now[0] += 2.5
                tick(done, "")
    assert capsys.readouterr().err.splitlines() == [
        "drawing anchor pictures: 64 of 128 pictures, 5 s left",
        "drawing anchor pictures: 128 of 128 pictures, 0 s left",
        "drawing retain pictures: 64 of 128 pictures, 5 s left",
        "drawing retain pictures: 128 of 128 pictures, 0 s left",
    ]
