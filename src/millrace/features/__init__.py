"""One definition of everything that stages exchange and models see. Columns and query fields are declared here."""
