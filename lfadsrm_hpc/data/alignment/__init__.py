"""How sessions are brought into one space: averages by condition, common components, read-in matrices."""
