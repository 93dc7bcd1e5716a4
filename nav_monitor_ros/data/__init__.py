"""Sources of images: folders, arrays, idx files, bags and built-in samples."""
