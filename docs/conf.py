"""How Sphinx shows the site; `build.py` says what is on it. Neither building nor reading it loads anything."""

project = "mitoframe"
author = "the authors of mitoframe"
root_doc = "index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = []

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

default_role = "py:obj"  # docstrings name things in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "mitoframe"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "native"
