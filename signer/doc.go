// Package signer holds the keys of a log and decides what they sign. It is a gatekeeper: it signs a checkpoint only when a
// consistency proof shows that the tree begins with the one that it signed last, and it keeps that one in a state file of
// its own, outside of the audit database. So a log that was rewritten, shortened or rolled back to an old backup gets no
// signature, whoever asks.
//
// # Files
//
// The key file holds one line, the signer key of golang.org/x/mod/sumdb/note: PRIVATE+KEY+ORIGIN+HASH+BASE64. With a
// passphrase that line is an age file (https://age-encryption.org/v1, scrypt recipient, ASCII armor): age -d opens it.
//
// The state file holds the last signed checkpoint, a signed note. keygen makes it with a checkpoint over no entries. A
// state file that is missing is therefore lost, and nothing is signed; to mend it, put the newest checkpoint that was
// published (by an anchor, a witness, an export) in its place.
//
// # Socket
//
// Serve answers HTTP on a unix socket, in the words of https://c2sp.org/tlog-witness with an unsigned checkpoint:
//
//	GET  /checkpoint       the last signed checkpoint
//	GET  /keys             the verifier keys, one a line
//	POST /sign-checkpoint  "old SIZE", lines of the proof in base64, an empty line, the three lines of the checkpoint;
//	                       the answer is the signed checkpoint. 409 with the signer's size: old is not that of the
//	                       signer. 422: refused, the tree does not begin with the one signed before. 400, 403: not a
//	                       request of this log.
package signer
