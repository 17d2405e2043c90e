"""Figures, galleries and the HTML page of a report."""
