"""What the law and the tenant allow: questions in, decisions out."""
