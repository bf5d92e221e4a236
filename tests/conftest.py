"""What every test has: reported skips, and control planes to ask for."""

pytest_plugins = ["pytester", "plugins.skips", "plugins.planes", "plugins.properties"]
