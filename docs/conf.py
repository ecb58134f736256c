"""The site: ``make docs`` builds it into build/docs. Nothing is fetched while it is built."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "aiohttp_persistent_session"
release = version = version_of("aiohttp-persistent-session")
project_copyright = "the authors of aiohttp_persistent_session"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docstrings",
    "links",
    "rules_diagram",
]
exclude_patterns = ["_ext", "_static"]
highlight_language = "text"
nitpicky = True
nitpick_ignore_regex = [
    # They have sites of their own. To link there, the build would have to fetch their inventories.
    (r"py:.*", r"(aiohttp|aiohttp_session|aiohttp_security|aiosignal|multidict|pymongo|motor|redis|sqlalchemy)\..*"),
    (r"py:.*", r"(abc|asyncio|collections|contextlib|dataclasses|datetime|enum|pathlib|types|typing|weakref)\..*"),
    # As docstrings name what every reader knows.
    (r"py:.*", r"web\.\w+"),
    # A type variable.
    (r"py:class", r"aiohttp_persistent_session\.fresh\.H"),
    # Aliases of types that are theirs.
    (r"py:class", r"SessionSignal|RedisClient"),
]

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
viewcode_line_numbers = True

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "aiohttp_persistent_session"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#8cbcf2", "color-brand-content": "#8cbcf2"},
}
