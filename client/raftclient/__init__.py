"""The client library of raftd."""
