"""Understanding of content: what is derived from texts. So far tokens (`millrace.base.tokens`) and hashed vectors."""
