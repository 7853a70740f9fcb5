"""The version, in one place: the package, the command line and pyproject.toml read it here."""

__version__ = "0.2.0.dev0"
