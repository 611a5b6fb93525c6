"""How Sphinx builds the documentation; `nox -s docs` runs it with warnings as errors."""

import importlib.metadata

project = "ExoFlow"
author = "The ExoFlow developers"
copyright = author  # noqa: A001 - Sphinx's name for it
release = importlib.metadata.version("exoflow-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]

html_theme = "furo"
html_title = f"ExoFlow {release}"
