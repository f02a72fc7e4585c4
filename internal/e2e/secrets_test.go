package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What the mapping says is never stored, or masked, stands nowhere in the audit database: not in an entry, not in the
// directory, not in an index, not in a dead row. So the files of the database are searched, not its tables.
func TestNeverStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{audit: map[string]string{"full_page_writes": "off", "wal_compression": "off", "default_toast_compression": "pglz"}})
	w.start(t)
	w.streaming(t)
	const user = `begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001'; `
	secrets := map[string]string{ // by what they are
		"password digest": "XqDigestXq1", "new password digest": "XqDigestXq2", "storage key": "XqKeyXq1", "social security number": "987-65-4329",
		"identifier": "XqIdentifierXq", "phone number": "+15550009876", "sensitive custom field": "XqTribalXq", "address line": "XqLineXq 12",
	}
	w.sourceExec(t, user+fmt.Sprintf(`
		insert into membership.users (id, tenant_id, email, display_name, kind, password_digest)
		  values ('2f000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'new@hfs.example', 'New User', 'staff', '%s');
		update membership.users set password_digest = '%s' where id = '2f000000-0000-4000-8000-000000000001';
		insert into people.people (id, tenant_id, first_name, last_name, ssn, custom_fields)
		  values ('4f000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Sec', 'Ret', '%s', '{"tribal_enrollment_no": "%s"}');
		insert into people.person_identifiers (person_id, id_type, id_value) values ('4f000000-0000-4000-8000-000000000001', 'medicaid', '%s');
		insert into people.contact_points (person_id, kind, value) values ('4f000000-0000-4000-8000-000000000001', 'phone', '%s');
		insert into people.addresses (tenant_id, line_1, city) values ('10000000-0000-4000-8000-000000000001', '%s', 'VisibleCityXq');
		insert into content.attachments (tenant_id, attachable_type, attachable_id, file_name, content_type, byte_size, sha256, storage_key)
		  values ('10000000-0000-4000-8000-000000000001', 'person', '4f000000-0000-4000-8000-000000000001', 'a.txt', 'text/plain', 1, sha256('a'), '%s');
		commit`, secrets["password digest"], secrets["new password digest"], secrets["social security number"], secrets["sensitive custom field"],
		secrets["identifier"], secrets["phone number"], secrets["address line"], secrets["storage key"]))
	w.sourceExec(t, user+`delete from people.people where id = '4f000000-0000-4000-8000-000000000001'; commit`)
	w.caughtUp(t, time.Minute)
	w.auditExec(t, "checkpoint")

	found := w.auditFiles(t, append([]string{"VisibleCityXq"}, values(secrets)...))
	if !found["VisibleCityXq"] {
		t.Fatal("what is not a secret is not found either: the search is worth nothing")
	}
	for what, secret := range secrets {
		if found[secret] {
			t.Errorf("the audit database holds a %s", what)
		}
	}
}

func values(m map[string]string) (list []string) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// auditFiles says which words stand in the files of the audit server: tables, indexes and WAL.
func (w *world) auditFiles(t *testing.T, words []string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(w.audit.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // the server is at work: files come and go
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, word := range words {
			if bytes.Contains(text, []byte(word)) {
				found[word] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
