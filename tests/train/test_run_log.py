import json

from oubliette.train.run_log import RunLog


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rewind_forgets_what_came_after_and_a_line_that_was_cut(tmp_path):
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": {"a": float("nan")}})
    assert json.loads(path.read_text().splitlines()[0])["loss"]["a"] is None
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = RunLog(path)
    again.rewind(2)
    again.write({"step": 3})
    assert steps(path) == [1, 2, 3]
    assert [record["step"] for record in again.records] == [1, 2, 3]
    again.rewind(0)
    assert steps(path) == []


def test_without_a_path_records_stay_in_memory():
    log = RunLog(None)
    log.write({"step": 1})
    log.write({"step": 2})
    log.rewind(1)
    assert log.records == [{"step": 1}]
