// Package capture says what Postgres said: committed transactions, each with its row changes and logical messages in the
// order in which they were made, values in four states.
//
// # What we ask of Postgres
//
// A logical slot of the plugin pgoutput (protocol version 1, messages on), and a publication that was there before the
// slot. Streaming of transactions in progress stays off: with it, the message of an aborted savepoint arrives and stays,
// because messages carry the top-level xid and rows the savepoint's. The server spills what it collects; we need not.
//
// The session is pinned (see sessionParams), so that a value's text never depends on a setting of the server, of the
// role or of whoever wrote the row.
//
// # What we promise
//
// Delivery is at least once, in commit order, whole transactions only. The key of a change is (commit LSN, ordinal):
// commit LSNs rise strictly; the LSN of a single row does not identify anything, since a message, a BEGIN and every row
// of a COPY batch may share one. Storage becomes exactly-once through the consumer: it stores the commit LSN together
// with what it made of the transaction, hands it back as Config.SkipThrough at the next Open, and confirms the end LSN.
// Skip by commit LSN, confirm end LSN, never add 1: one transaction's end may be the next one's commit.
//
// Nothing is confirmed to the server that the consumer has not confirmed to us. All three positions of a status update
// are that one (a flush position of 0 is taken for the write position by some libraries; and a write position ahead of
// the flush position gains us nothing). Confirm cannot go beyond what was handed out: the server would take a position in
// the future without a word and skip everything up to it.
//
// An undecodable message, an unknown message type, a relation that was never described, commit LSNs that do not rise: Run
// ends with an error that is not Retryable. Nothing is skipped. Errors name message type and offset, never a value.
//
// A transaction without a row change is not delivered; its end becomes part of the next Event.Idle, together with what
// keepalives say about WAL that is not ours. Without that an idle database would pin WAL for ever.
//
// # What the reader of a Change must know
//
// With replica identity FULL, an update may carry Unchanged in New (an out-of-line value that the server did not read)
// while Old has the text. Both stay as they were sent: taking the value from Old is the reader's business.
//
// With publish_via_partition_root the server describes a partition's row by the root: Relation.Identity is the root's. A
// partition that is not itself FULL then gives an "old" tuple that claims to be whole (OldKey is false) and in which all
// columns outside the partition's own key are Null. Nothing in the stream tells such a tuple from a row full of NULLs. The
// reader who knows the key columns has all it takes (Op, Old, Rel.Identity): an Old in which nothing but the key is
// present must be read as not known, and the check of every partition's identity must make it impossible.
//
// Values of the snapshot (ReadSnapshot) are the same text as the stream's, because both come from the type's output
// function. A cast to text would not do: it gives "true" where the stream says "t", and cuts the blanks of a char(n).
package capture
