"""What is shipped beside the program: image, compose file, recipes, documentation, skill."""
