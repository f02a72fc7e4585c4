// Package stored reads what the audit database holds of a ledger, as values of package ledger: rows, leaves, tiles,
// checkpoints. It decides nothing: who may see a row is the session's affair, and whether it is genuine the ledger's.
package stored
