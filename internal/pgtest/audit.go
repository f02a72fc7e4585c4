package pgtest

import (
	"encoding/hex"
	"io/fs"
	"testing"

	"casebook.example/audit/ledger"
	auditsql "casebook.example/audit/sql"
)

// The roles and the chain of a test's audit database.
const (
	Writer   = "test_writer"   // member of casebook_audit_writer
	Reader   = "test_reader"   // member of casebook_audit_reader
	Redactor = "test_redactor" // member of casebook_audit_redactor
	Chain    = "test"
	Origin   = "audit.example/test"
)

// ChainID is the id of a test's chain.
var ChainID = [16]byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}

// auditRoles are the cluster's; the first test of a cluster makes them.
const auditRoles = `
do $$
declare r text;
begin
  perform pg_advisory_xact_lock(1);
  foreach r in array array['casebook_audit_owner', 'casebook_audit_writer', 'casebook_audit_reader', 'casebook_audit_redactor'] loop
    if to_regrole(r) is null then execute format('create role %I nologin', r); end if;
  end loop;
  if to_regrole('` + Writer + `') is null then
    create role ` + Writer + ` login in role casebook_audit_writer;
    create role ` + Reader + ` login in role casebook_audit_reader;
    create role ` + Redactor + ` login in role casebook_audit_redactor;
  end if;
end $$`

// Audit makes an audit database as setup does, with one empty chain.
func Audit(t testing.TB) *DB {
	t.Helper()
	return audit(t, New(t))
}

// EachAudit runs the test on an audit database of every version.
func EachAudit(t *testing.T, test func(*testing.T, *DB)) {
	t.Helper()
	Each(t, func(t *testing.T, db *DB) { test(t, audit(t, db)) })
}

func audit(t testing.TB, db *DB) *DB {
	t.Helper()
	db.Exec(t, auditRoles)
	db.Exec(t, "grant create on database "+db.Name+" to casebook_audit_owner")
	db.Exec(t, "create table "+auditsql.VersionTable+" as select 0 as version; alter table "+auditsql.VersionTable+" owner to casebook_audit_owner; grant select on "+auditsql.VersionTable+" to public")
	files, err := fs.Glob(auditsql.Audit, "audit/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(auditsql.Audit, file)
		if err != nil {
			t.Fatal(err)
		}
		db.Exec(t, "set role casebook_audit_owner;\n"+string(text)+";\nupdate "+auditsql.VersionTable+" set version = version + 1")
	}
	genesis := ledger.Genesis(Origin)
	db.Exec(t, "insert into audit.chain (chain, name, chain_id, origin) values (1, '"+Chain+"', '"+hex.EncodeToString(ChainID[:])+"', '"+Origin+"');"+
		"insert into audit.position (chain, head) values (1, '\\x"+hex.EncodeToString(genesis[:])+"')")
	return db
}
