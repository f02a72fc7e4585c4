// Package mapping turns row changes into audit entries that an administrator reads: under which record a change belongs,
// what the record and the row were called, who did it, what happened in words, and what exactly changed.
//
// Everything that belongs to one application is in the mapping file (Parse); deploy/reference/mapping.yaml shows every
// key. The package knows no table by name.
//
// # The directory
//
// A change names its parents only by key. Names, owners and users of other rows come from the directory: our own copy of
// a few columns of those rows, fed by the stream itself and filled once from the slot's snapshot (Seeding). The source is
// never asked. A directory row keeps two states: after the last transaction that changed it, and before that transaction.
// So a delete is resolved as it was before, an insert as it is after, an update both ways, whatever order the WAL has
// inside a transaction: a cascade delivers the parent first.
//
//   - Rows live in the audit database; a Mapper holds the recently used ones, about 40 MiB of them.
//   - What changed is handed out by TakeDirty, and stays in the cache until Stored says that it is committed. Until then
//     load would not find it.
//   - Deleted rows stay, marked. A row that is stored nowhere is remembered as such until the stream brings it.
//
// # Two passes
//
// Map walks over a transaction twice. First all changes go into the directory, then each is mapped. What is missing is
// collected, loaded in one go with all that it leads to, and the changes are mapped again; with a warm cache nothing is
// asked. Same stream, same entries: neither the cache nor a restart nor the size of the parts shows in them. TestReplay
// holds the package to that.
//
// # What is never lost
//
// Each row change ends as an entry, or in one of two counts of the entry that closes the transaction: noise (only columns
// without audit meaning changed) and excluded (the table is, by name). A change whose parent was never seen, or whose table
// is not in the mapping, is an entry with a remark.
package mapping
