// Package attacks carries out, on a real audit database, the attacks that the log must show: as a superuser, where a detector has
// to see them, and as the writer, who has to be refused. It is tests alone.
package attacks
