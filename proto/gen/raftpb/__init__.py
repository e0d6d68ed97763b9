"""The API of raftd as generated code."""
