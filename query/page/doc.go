// Package page is the audit log as an administrator reads it in a browser: a filter, a table, one entry in full.
//
// It is rendered on the server from what package query gives, so a page, an answer of the API and an export are one query.
// Everything of a view is in its URL. Without JavaScript all of it can be read, filtered and leafed through; the script adds
// rows that open in place, names that complete while they are typed, and keys. Styles and script are embedded and served
// from here; the browser is told to take nothing from anywhere else.
//
// What the log holds was written by strangers. It is escaped for its place by html/template, kept from turning the
// direction of the text around it by bdi, and characters that cannot be seen are named (see visible).
package page
