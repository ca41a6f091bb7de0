"""Arrays that stay in their files and are read where they are used."""
