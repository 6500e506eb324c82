"""What ships with the program: image, compose file, recipes, documentation, skill."""
