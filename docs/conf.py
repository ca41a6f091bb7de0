"""How Sphinx builds the documentation: sphinx-build -W --keep-going -n -b html docs build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from lfadsrm_hpc import __version__  # noqa: E402

project = "lfadsrm_hpc"
author = "The lfadsrm_hpc maintainers"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_pages",
]
exclude_patterns = ["_ext", "images/*.py"]
nitpicky = True
highlight_language = "none"
default_role = "py:obj"
pygments_style, pygments_dark_style = "friendly", "monokai"

# Markdown and notebooks. The tests run the notebooks and the code of the pages; here they are only shown.
nb_execution_mode = "off"
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# Where a block has prompts, what is copied is the commands.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"lfadsrm_hpc {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
