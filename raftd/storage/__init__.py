"""The disk: one log and one state per node, in SQLite, and SQLite only here.

Shape. log.db holds the Raft log, term and vote; state.db holds the state machine's
rows as of some index. They are two files so that a checkpoint of many megabytes never
stands before an append of a few bytes. The state may lag the log, never lead it.

Trade-offs. An append is one INSERT statement: one hop to the connection's thread, one
sync, whatever the batch. A change of term or a conflict cut is one statement too,
through a view whose triggers do several things atomically, because a transaction of
several statements would cost a hop each. Checkpoints append packed chunks instead of
updating rows: an update costs more than following the log does. The price is a merge
now and then, which a separate process pays. A snapshot from a leader gathers beside the
state, as the chunks that it comes in; the install swaps a few small rows. It is in
state.db first and says so with a mark, and the log follows, at the next start if need
be: so a crash between the two files is no third case.

Rules:
1. A sync that failed ends the process; the store refuses everything after it. A write
   for which there was no room was definitely not done, and may be tried again.
2. At start nothing is trusted before it was written once more and synced.
3. Damage in what was promised stops the node; what only a torn last write can explain
   is cut away. SQLite does so with its own write-ahead log, without a word, so `wal`
   looks there for damage that is not a torn end.
4. Foreign, newer and damaged files are told in one sentence and not changed.

Source: DESIGN.md section 6, RELIABILITY.md sections 0 and 1 (rules 23-32, 46, 49-51).
"""
