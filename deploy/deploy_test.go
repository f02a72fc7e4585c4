// Package deploy holds what a deployment needs beside the binary: the service unit, the alert rules, a commented
// configuration, a container image.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The alert rules fire on their examples and stay quiet on the others, as the real promtool judges.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		promtool, err = filepath.Abs("../.cache/bin/promtool")
		if err == nil {
			_, err = os.Stat(promtool)
		}
	}
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatal("promtool is missing: run `make deps`")
	case err != nil:
		t.Skip("promtool is missing: run `make deps`")
	}
	// Read here too: what only promtool reads, the cache of test results does not know of.
	for _, name := range []string{"alerts.yaml", "alerts_test.yaml"} {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
