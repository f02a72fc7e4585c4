// Package query answers what administrators, auditors and scripts ask of the log: one page of entries, one entry, an
// export of any size, names to complete while typing, and how far the log reaches.
//
// It reads with a role that can only read, in one read-only transaction a request. Tenants are kept apart twice: every
// statement names the caller's tenants, and the transaction sets casebook_audit.tenants, which the audit database's
// row-level security asks for. Pages and exports are made by the same statement (see Filter), ordered by commit time and
// sequence number, so a cursor stays right while entries arrive.
//
// Nobody is let in without a token, or the session of a browser that signed in with one. Every request for entries, refused
// ones included, is handed to Config.OnAccess, whose refusal refuses the request: a log that cannot record who reads it does
// not answer. Package page is the same log for people.
package query
