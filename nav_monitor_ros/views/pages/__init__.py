"""Pages that are one file each: templates, their styles and scripts, and what fills them."""
