"""Binary architecture search."""
