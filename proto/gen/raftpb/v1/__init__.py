"""Version 1 of the API: one module per file of proto/raftpb/v1."""
