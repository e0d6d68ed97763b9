"""The command line of raftd, built on the client library alone."""
