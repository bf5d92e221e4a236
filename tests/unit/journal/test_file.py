import json
from pathlib import Path

import pytest

from controller.errors import ConfigError
from controller.journal import file as file_module
from controller.journal.file import KEEP_DAYS, Journal, parts, records

DAY = 86400.0


def test_records_are_appended_to_the_file_of_their_day(tmp_path):
    journal = Journal(tmp_path / "journal")
    assert journal.write(DAY * 10, {"policy": "a"}) is None
    assert journal.write(DAY * 10 + 1, {"policy": "b"}) is None
    (file,) = (tmp_path / "journal").iterdir()
    assert file.name == "1970-01-11.jsonl"
    assert [json.loads(line)["policy"] for line in file.read_text().splitlines()] == ["a", "b"]


def test_the_oldest_days_are_dropped(tmp_path):
    journal = Journal(tmp_path)
    for day in range(KEEP_DAYS + 5):
        journal.write(DAY * day, {})
    assert len(list(tmp_path.iterdir())) == KEEP_DAYS
    assert not (tmp_path / "1970-01-01.jsonl").exists()


def test_a_vanished_folder_costs_the_record_and_says_so(tmp_path):
    journal = Journal(tmp_path / "j")
    (tmp_path / "j").rmdir()
    assert journal.write(0.0, {}) == f"journal: {tmp_path / 'j'}: No such file or directory"


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--journal"):
        Journal(tmp_path / "file" / "j")


def test_a_day_is_kept_in_parts_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(file_module, "PART_BYTES", 1000)
    monkeypatch.setattr(file_module, "KEEP_BYTES", 5000)
    journal = Journal(tmp_path)
    for number in range(200):
        assert journal.write(DAY + number, {"number": number, "text": "x" * 80}) is None
    sizes = [part.stat().st_size for part in parts(tmp_path)]
    assert all(size <= 1200 for size in sizes)
    assert sum(sizes) <= 5000 + 1200
    kept = [record["number"] for part in parts(tmp_path) for record in records(part)]
    assert kept == list(range(kept[0], 200))
    assert Journal(tmp_path).write(DAY + 200, {"number": 200}) is None
    assert list(records(parts(tmp_path)[-1]))[-1]["number"] == 200


def test_parts_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("1970-01-02.10.jsonl", "1970-01-02.9.jsonl", "1970-01-02.jsonl", "1970-01-01.jsonl", "notes.jsonl"):
        (tmp_path / name).write_text("")
    assert [part.name for part in parts(tmp_path)] == [
        "1970-01-01.jsonl",
        "1970-01-02.jsonl",
        "1970-01-02.9.jsonl",
        "1970-01-02.10.jsonl",
    ]


@pytest.mark.parametrize("torn", [b'{"at": 1.0, "poli', b"\x00\xff\xfe", b"[]\n", b'{"at": "now"}\n'])
def test_a_torn_line_is_skipped_and_nothing_is_glued_to_it(tmp_path, torn):
    Journal(tmp_path).write(DAY, {"n": 1})
    (part,) = parts(tmp_path)
    with part.open("ab") as file:
        file.write(torn)
    Journal(tmp_path).write(DAY + 1.0, {"n": 2})
    assert [record["n"] for record in records(part)] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_costs_the_record_and_says_so(tmp_path):
    journal = Journal(tmp_path)
    (tmp_path / "1970-01-02.jsonl").symlink_to("/dev/full")
    assert journal.write(DAY, {}) == f"journal: {tmp_path}: No space left on device"
    assert journal.write(2 * DAY, {}) is None
