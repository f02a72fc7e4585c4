package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The two places where a major version may be.
const (
	debianFolder = "/usr/lib/postgresql"
	folderEnv    = "CASEBOOK_AUDIT_PG" // unpacked packages: FOLDER/16/bin/postgres
)

// Versions lists the major versions of which there is a server on this machine.
func Versions() []int {
	var versions []int
	for _, root := range []string{debianFolder, packagesFolder()} {
		found, _ := filepath.Glob(filepath.Join(root, "*", "bin", "postgres"))
		for _, path := range found {
			v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
			if err == nil && !slices.Contains(versions, v) {
				versions = append(versions, v)
			}
		}
	}
	slices.Sort(versions)
	return versions
}

// findBinaries gives the folder of postgres and initdb. Debian's packages come first.
func findBinaries(version int) (string, error) {
	for _, root := range []string{debianFolder, packagesFolder()} {
		bin := filepath.Join(root, strconv.Itoa(version), "bin")
		if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
			return bin, nil
		}
	}
	return "", fmt.Errorf("there is no Postgres %d here, neither in %s nor in %s: run `make deps` (found: %s)",
		version, debianFolder, packagesFolder(), strings.Trim(fmt.Sprint(Versions()), "[]"))
}

// packagesFolder is where `make deps` unpacks the versions that the distribution does not have: $CASEBOOK_AUDIT_PG, else
// .cache/pg of the repository that we stand in, else of the one that our program was built in.
func packagesFolder() string {
	if dir := os.Getenv(folderEnv); dir != "" {
		return dir
	}
	const sub = ".cache/pg"
	wd, _ := os.Getwd()
	exe, _ := os.Executable()
	for _, from := range []string{wd, filepath.Dir(exe)} {
		for dir := from; dir != ""; dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return filepath.Join(dir, sub)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return sub
}
