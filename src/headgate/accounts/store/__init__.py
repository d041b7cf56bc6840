"""The SQL of organizations, projects, people, sessions and invitations."""
