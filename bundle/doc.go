// Package bundle is what leaves the log as evidence: one entry with its proof, and the entries of a query with theirs in a
// file. A verifier needs nothing else than such a file and a policy that says whose signature counts; the policy never
// comes from the file.
//
// # Entry
//
// Entry is a JSON object, written by encoding/json with an indent of one space. Leaf is the 101 bytes in hexadecimal;
// fields are in their order, each with its salt, or with its digest alone where it is withheld. The proof of a single
// entry also holds checkpoint, inclusion (base64) and tlog_proof, a file of https://c2sp.org/tlog-proof.
//
// # File
//
// A bundle is a zip archive whose members are stored, not compressed, without dates, so that the same content has one
// spelling, and a verifier compares every byte:
//
//	checkpoint                the signed checkpoint that all proofs are under
//	consistency/SIZE          that its tree begins with the one of SIZE entries: hashes in base64, one a line
//	entries/SEQ.json          an Entry
//	proofs/SEQ.tlog-proof     its proof
//	MANIFEST                  see Manifest; the last member
//
// The name of a bundle is H(15 || MANIFEST). The manifest is not signed: each entry is proven by itself, and no bundle
// proves that it holds all entries of a query. To pin what was handed over, hand over its name by another way.
package bundle
