"""Self-contained HTML pages: templates, styles, scripts and their contents."""
