"""Policy documents and the verdict they give."""
