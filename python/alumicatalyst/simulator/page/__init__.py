"""A page that shows what a plan simulates: one self-contained HTML file with a plot for each kind of machine."""

from alumicatalyst.simulator.page.html import About, write_page

__all__ = ["About", "write_page"]
