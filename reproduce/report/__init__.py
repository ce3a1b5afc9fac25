"""What people read: tables, figures and the page, made from rows and result files only."""
