"""Who may look: sign-in, sessions, and checks of every request."""
