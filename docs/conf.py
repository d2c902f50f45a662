"""Sphinx configuration; `scripts/check` builds the site with warnings as errors."""

from __future__ import annotations

from async_triggers import __version__

project = "async-triggers"
author = "The async-triggers contributors"
project_copyright = "The async-triggers contributors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
# What the benchmarks wrote; pages include it.
exclude_patterns = ["_build", "measured/*.md"]

html_theme = "furo"
html_title = f"async-triggers {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# The site is built without a network, so the inventories of other projects are not at
# hand: references into this package must resolve, references out of it stay plain.
nitpick_ignore = [
    # A type variable.
    ("py:class", "async_triggers.simulator.vendor.Settings"),
]
nitpick_ignore_regex = [(r"py:.*", r"(?!async_triggers\.).*")]

# Prompts are shown, not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
# A command that goes on below is copied whole.
copybutton_line_continuation_character = "\\"
