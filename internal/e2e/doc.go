// Package e2e tests the binary as a DBA runs it: built once, started as a process, between two real servers. It has
// tests only.
//
// A world is a source with the reference schema, an audit database and a configuration; both sides were set up by the
// binary's own commands. The tests kill what a world consists of, fill its disk, take its slot away, and compare what
// the log says with what the source holds. Nothing waits for a time to pass: every wait has a condition and a deadline.
package e2e
