// Package imports holds the rule of who may import whom, as a test.
package imports

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "casebook.example/audit/"

// allowed lists, for each package, the packages of this module that its code (not its tests) may import. A package that
// is missing here fails the test: whoever adds one decides where it stands.
var allowed = map[string][]string{
	"ledger":             {},
	"capture":            {},
	"mapping":            {"capture", "ledger"},
	"mapping/draft":      {},
	"reconcile":          {"capture", "mapping", "ledger"},
	"sql":                {},
	"sql/source":         {},
	"stored":             {"ledger"},
	"signer":             {"ledger"},
	"anchor":             {"ledger"},
	"bundle":             {"ledger"},
	"removal":            {"ledger", "sink"},
	"sink":               {"ledger", "mapping", "sql", "stored"},
	"mirror":             {"ledger", "stored"},
	"query":              {"bundle", "ledger", "sql", "stored"},
	"query/page":         {"ledger", "query"},
	"deploy/reference":   {},
	"deploy":             {},
	"internal/cluster":   {},
	"internal/pgtest":    {"internal/cluster", "deploy/reference", "ledger", "sql"},
	"internal/e2e":       {},
	"internal/attacks":   {},
	"internal/imports":   {},
	"internal/bench":     {"*"},
	"cmd/casebook-audit": {"anchor", "capture", "mapping", "mapping/draft", "reconcile", "ledger", "sink", "signer", "stored", "bundle", "removal", "mirror", "query", "query/page", "sql", "sql/source", "deploy/reference", "internal/cluster"},
}

// testOnly may be imported by tests alone.
var testOnly = []string{"internal/pgtest"}

func TestImportDirections(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(bufio.NewReader(bytes.NewReader(out))); dec.More(); {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(pkg.ImportPath, module)
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s is not in the list of who may import whom", name)
			continue
		}
		for _, imported := range pkg.Imports {
			other, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if slices.Contains(testOnly, other) {
				t.Errorf("%s imports %s, which is for tests", name, other)
			}
			if !slices.Contains(may, other) && !slices.Contains(may, "*") {
				t.Errorf("%s must not import %s", name, other)
			}
		}
	}
	if seen < 5 {
		t.Fatalf("go list found only %d packages", seen)
	}
}
