"""Organizations, projects, people, and how people sign in."""
