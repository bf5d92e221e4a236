"""The pages that repeat what the code says must say it as the code does."""

from dataclasses import fields
from pathlib import Path

from controller.report.metrics import Metrics
from controller.settings import Settings, flag, variable

ROOT = Path(__file__).parents[2]


def settings_table():
    rows = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    for f in fields(Settings):
        default = f"`{f.default}`" if f.default != "" else ""
        rows.append(f"| `{flag(f.name)}` | `{variable(f.name)}` | {default} | {f.metadata['doc']} |")
    return "\n".join(rows)


def test_the_settings_table_is_the_settings():
    page = (ROOT / "docs" / "operate.md").read_text()
    table = page.partition("tests/unit/test_docs.py -->\n")[2].partition("\n<!-- end -->")[0]
    assert table == settings_table()


def test_every_metric_is_documented():
    page = (ROOT / "docs" / "operate.md").read_text()
    names = {family.name for family in Metrics().registry.collect()}
    assert len(names) > 10
    missing = [name for name in names if f"`{name}" not in page]
    assert not missing
