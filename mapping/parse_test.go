package mapping

import (
	"os"
	"testing"
)

func TestReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/reference/mapping.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Parse("mapping.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rules.Tables() {
		t.Log(f.Name, f.Fate, f.Directory)
	}
}
