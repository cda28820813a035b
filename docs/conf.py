"""Sphinx configuration: pages in MyST Markdown, one manual page per command."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))

project = "Nexus"
author = "The Nexus engineers"
copyright = "2026, The Nexus engineers"
version = release = "0.1.0"

extensions = ["myst_parser", "commands"]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = "Nexus"
myst_heading_anchors = 3
nitpicky = True
man_pages = [
    ("reference/commands", "nexus", "run and inspect a sovereign node", [author], 1),
]
