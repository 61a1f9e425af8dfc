"""What every test directory may use: pytester, which pytest takes from this one place only."""

pytest_plugins = ["pytester"]
