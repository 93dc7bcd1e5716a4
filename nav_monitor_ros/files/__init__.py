"""Files written whole or not at all, paths, pictures on disk, and YAML that is not trusted."""
