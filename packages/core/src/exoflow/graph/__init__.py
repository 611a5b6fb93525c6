"""What depends on what: nodes as users bind them, and the flat DAG they are compiled to. Pure."""
