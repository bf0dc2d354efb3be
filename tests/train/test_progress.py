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
        "training: 5 of 10 updates, 30 s left, loss 5",
        "training: 8 of 10 updates, 12 s left, loss 8",
        "training: 10 of 10 updates, 0 s left, loss 10",
    ]


def test_short_work_and_disabled_progress_say_nothing(capsys):
    with progress("training", 3) as tick:
        tick(3, "")
    with progress("training", 3, enabled=False) as tick:
        tick(3, "")
    assert capsys.readouterr().err == ""
