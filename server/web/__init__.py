"""Pages: templates, styles and scripts, all of them from here."""
