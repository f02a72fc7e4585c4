// Package reconcile holds the source's tables against what the log says of them: the fold of all entries up to one place
// in the stream must be the tables as a snapshot of that place shows them.
//
// Both sides come sorted by the key of the row and are gone over once, so memory depends on neither. What the log cannot
// know is not compared: values that the mapping withholds, columns without audit meaning, columns that the marks of a soft
// delete are made of, generated columns, and rows or columns that were there before the log began and did not change since.
package reconcile
