"""Images in, bundles out: fitting, training and exporting."""
