"""Version: the version of this wheel, which is written nowhere else."""

__version__ = "1.0.0.dev0"
