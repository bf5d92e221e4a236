"""What the commands print: each makes its object first, and shows it as a table or as JSON."""
