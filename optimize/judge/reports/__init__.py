"""What is stored, shown: tables, Markdown, pictures, comparisons."""
