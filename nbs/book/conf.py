"The book: how sphinx and myst-nb show what `vocalrep.report.book` has written for them."
import re

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = "vocalrep"
author = "the vocalrep authors"
copyright = "2026 the vocalrep authors"
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "vocalrep"
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["book.css"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_ipywidgets_js = {}                    # nothing is fetched: the site opens from the disk
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "fieldlist"]
myst_dmath_double_inline = True
python_use_unqualified_type_names = True
suppress_warnings = ["myst.header", "myst.xref_missing", "myst-nb.lexer", "mystnb.unknown_mime_type"]   # links: tests


def inline_math(writer, node):
    "An equation inside a line, as MathML, which browsers draw without any script."
    writer.body.append(convert(node.astext()))
    raise SkipNode


def displayed_math(writer, node):
    "An equation on a line of its own, with its number in the paper on the right."
    tag = re.search(r"\\tag\{([^}]*)\}", node.astext())
    equation = convert(re.sub(r"\\tag\{[^}]*\}", "", node.astext()), display="block")
    number = f'<span class="eqno">({tag[1]})</span>' if tag else ""
    writer.body.append(f'<div class="math">{equation}{number}</div>')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
