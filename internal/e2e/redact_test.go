package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"casebook.example/audit/internal/cluster"
)

// A removal by the commands alone, while a daemon writes and signs: order, approvals, carry-out; the daemon gives the chain away
// each time and goes on, and nothing of the stream is lost.
func TestRedact(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{audit: map[string]string{"wal_compression": "off", "default_toast_compression": "pglz"}})
	w.keygen(t, "signing.key")
	approver := func(name string) string {
		r := w.mustRun(t, "keygen", "--origin", name+".example", "--key", filepath.Join(w.dir, name))
		return strings.TrimSpace(r.stdout)
	}
	anna, ben := approver("anna"), approver("ben")
	approver("eve")
	w.configure(t, "mapping: mapping.yaml", fmt.Sprintf("mapping: mapping.yaml\nledger: {signing_key_file: signing.key, checkpoint_interval: 100ms}\nredaction: {dsn: %q, approvers: [%q, %q], backups_kept: 35d}",
		w.audit.DSN(auditDB, cluster.Superuser), anna, ben))
	w.start(t)
	w.streaming(t)
	const secret = "XqRedactedXq"
	w.sourceExec(t, `begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
		insert into people.people (id, tenant_id, first_name, last_name) values ('4f000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001', '`+secret+`', 'Stays'); commit`)
	w.caughtUp(t, time.Minute)
	w.allSigned(t)

	var ordered struct {
		Order uint64 `json:"order"`
	}
	r := w.mustRun(t, "redact", "order", "--json", "--record", "4f000000-0000-4000-8000-000000000009", "--level", "entry", "--reason", "expungement", "--authority", "County Court 12/3")
	if err := json.Unmarshal([]byte(r.stdout), &ordered); err != nil {
		t.Fatal(err)
	}
	order := strconv.FormatUint(ordered.Order, 10)
	if r := w.run(t, nil, "redact", "carry-out", order); r.code != 2 || !strings.Contains(r.stderr, "0 valid approvals") {
		t.Errorf("not approved: %s", r)
	}
	if r := w.run(t, nil, "redact", "approve", order, "--key", filepath.Join(w.dir, "eve")); r.code != 2 || !strings.Contains(r.stderr, "redaction.approvers") {
		t.Errorf("eve: %s", r)
	}
	for _, name := range []string{"anna", "ben"} {
		w.mustRun(t, "redact", "approve", order, "--key", filepath.Join(w.dir, name))
	}
	w.streaming(t)
	w.work(t, "meanwhile")
	w.caughtUp(t, time.Minute)
	w.allSigned(t)
	if r := w.mustRun(t, "redact", "carry-out", order); !strings.Contains(r.stdout, "Backups may hold it until: 2") {
		t.Errorf("%s", r)
	}
	w.streaming(t)
	w.work(t, "afterwards")
	w.caughtUp(t, time.Minute)
	if r := w.mustRun(t, "verify"); !strings.Contains(r.stdout, "Removed under order "+order) {
		t.Errorf("%s", r)
	}
	if n := w.auditValue(t, "select count(*) from audit.entry e where e::text like '%"+secret+"%'"); n != "0" {
		t.Errorf("%s entries hold the value", n)
	}
	if n := w.auditValue(t, "select (select count(*) from audit.directory d where d::text like '%"+secret+"%') + (select count(*) from audit.record_name n where n::text like '%"+secret+"%')"); n != "0" {
		t.Errorf("%s derived rows hold the value", n)
	}
	// By hand it is tampering.
	w.auditExec(t, "update audit.entry set vals = array_fill(null::text, array[cardinality(vals)]) where seq = (select max(seq) from audit.entry where kind = 1)")
	if r := w.run(t, nil, "verify"); r.code != 1 {
		t.Errorf("by hand: %s", r)
	}
}
