// Package ledger says what the log asserts: entries, and the chain of hashes that makes it evident when one is altered,
// removed or put in, and the Merkle tree over them. It is pure functions over values: no database, no clock, no randomness.
//
// # Format, version 1
//
// All integers are big-endian. H is SHA-256. LP4(x) is the length of x as u32, then x. Text is its UTF-8 bytes exactly as
// received. The first byte of every hash input says what it is: 00 a leaf, 01 a node of the Merkle tree (RFC 6962), 10 a
// salt, 11 a field, 12 a commitment, 13 a genesis.
//
// A leaf is 101 bytes and holds no name, no table and no actor:
//
//	"ALE" 01 | kind u8 | chain_id 16 | seq u64 | prev 32 | recorded_us i64 | commitment 32
//
//	leaf_hash = H(00 || leaf)
//	prev(seq) = leaf_hash(seq - 1);  prev(0) = H(13 || origin)
//
// The leaf hash is the RFC 6962 leaf hash and the link of the chain at once, so chain and tree cannot tell two stories.
// recorded_us is when the entry was sealed, in microseconds since 1970 UTC; it never goes back along the chain.
//
// The commitment covers the entry's fields in order, each under a salt of its own, so that one field can be shown or
// destroyed while the others keep their secret:
//
//	salt_i     = H(10 || entry_salt 32 || u32 i)
//	d_i        = H(11 || salt_i || u32 i || LP4(path) || LP4(type) || state u8 || LP4(value))
//	commitment = H(12 || u32 n || d_0 || ... || d_n-1)
//
// States: 0 NULL, 1 value, 2 unchanged and not sent, 3 not known, 4 masked. The value of any state but 1 is empty.
//
// Fields 0 to 24 are the fixed ones, with these paths and types, in this order:
//
//	commit_lsn pg_lsn, ordinal int8, xid xid, committed_at int8, tenant_id text, application text, record_type text,
//	record_id text, record_name text, resource text, sub_resource text, table_name text, row_id text, row_name text,
//	action text, summary text, initiator text, user_id text, user_email text, user_name text, db_user text, db_app text,
//	client_addr text, backend_pid int8, remark text
//
// Their values are text too: numbers in decimal, commit_lsn as Postgres writes it, committed_at as microseconds since 1970
// UTC. One that does not apply is NULL (state 0); none is ever an empty value. Then come the variable fields in the order
// in which they are stored (see Field). A create or a delete lists every column with audit meaning that is not NULL; a
// column that it does not list was NULL.
//
// A transaction boundary (kind 4) follows the entries of each source transaction: ordinal is the number of its row
// changes; its fields are prev_commit_lsn (pg_lsn; NULL for the first), and changes, entries, noise and excluded (int8),
// where changes = entries + noise + excluded.
//
// The Merkle tree of RFC 6962 stands over the leaves: its node hashes are H(01 || left || right). It is kept in tiles of
// https://c2sp.org/tlog-tiles: tile i of level l holds the 256 nodes of height 8*l from number 256*i on. Only full tiles
// are stored; the hashes at the right edge are leaf hashes, or roots of the tiles of the level below.
//
// testdata/v1.json holds vectors: entries with their salts, commitments, leaves and hashes.
package ledger
