"""A past for a real Prometheus, written into its storage by promtool before it starts."""

import shutil
import subprocess


def fill(folder, text):
    """Make blocks of OpenMetrics text in `folder/data`; the text ends before the first scrape, and with `# EOF`."""
    assert shutil.which("promtool"), "promtool is not installed: make tools"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "past.txt").write_text(text)
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "past.txt", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
