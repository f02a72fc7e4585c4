package e2e

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is the program under test. TestMain sets it before any test runs, and nothing changes it after that.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if testing.Short() {
		return m.Run() // every test skips
	}
	dir, err := os.MkdirTemp("", "cba-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := lookAtSources(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = filepath.Join(dir, "casebook-audit")
	if out, err := exec.Command("go", "build", "-o", program, "casebook.example/audit/cmd/casebook-audit").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// lookAtSources looks at each file that the program is made of. `go test` repeats a result without a run as long as what
// the test looked at is the same, and it does not know of the program that is built here.
func lookAtSources() error {
	return filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name := entry.Name(); len(name) > 2 && strings.HasPrefix(name, ".") {
				return filepath.SkipDir // .git, .cache
			}
		default:
			_, err = os.Stat(path)
		}
		return err
	})
}
