"""
The composition root: settings in, a running cell out.

The only place that names adapters, and the only one that reads the clock and the environment.
"""

from gateway.compose.cell import Cell, app, cell
from gateway.compose.surroundings import config_path, now

__all__ = ["Cell", "app", "cell", "config_path", "now"]
