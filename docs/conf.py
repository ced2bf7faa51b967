"""How Sphinx builds the documentation: `make docs`."""

import stepflow

project = "stepflow"
author = "The stepflow authors"
copyright = author
version = release = stepflow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"stepflow {release}"

default_role = "code"
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
