import json

import pytest

from controller.errors import ConfigError
from controller.journal.file import KEEP_DAYS, Journal

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
