// Package removal takes things out of the log lawfully: an order in the log, the approval of two keys, the removal by the
// one function of the audit database that can do it, the rewriting of the tables that held it, and the record of it in the
// log. What may be missing from an entry, and must be, is for package ledger to say; verifiers ask it.
//
// Every step is an operator's turn at the chain (Desk): the running daemon lets it go meanwhile, and reads anew afterwards
// what it remembered.
package removal
