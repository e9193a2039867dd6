"""What we hand to a reviewer, and how a stranger checks it."""
