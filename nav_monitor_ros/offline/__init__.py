"""Folders, arrays and bags in; bundles, tables and reports out."""
