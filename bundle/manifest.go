package bundle

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"casebook.example/audit/ledger"
)

const (
	manifestHeader = "casebook-audit-bundle 1"
	manifestName   = "MANIFEST"
	checkpointName = "checkpoint"
)

// Manifest says what is in a bundle and what was asked for. It is text:
//
//	casebook-audit-bundle 1
//	origin audit.agency.example/casebook
//	size 1234                     of the checkpoint
//	query "application=Engage"    as a Go string
//	tenants "t1,t2"               that it was asked for; "*" is every one
//	newer 3                       entries of the query that are not in it: they were not under the checkpoint yet
//	file SHA256 BYTES NAME        one line a member, as they come
type Manifest struct {
	Origin  string
	Size    uint64
	Query   string
	Tenants string
	Newer   uint64
	Files   []File
}

// File is a member of a bundle.
type File struct {
	SHA256 ledger.Hash
	Bytes  int64
	Name   string
}

// Text is the one spelling of a manifest.
func (m *Manifest) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\norigin %s\nsize %d\nquery %s\ntenants %s\nnewer %d\n", manifestHeader, m.Origin, m.Size, strconv.QuoteToASCII(m.Query), strconv.QuoteToASCII(m.Tenants), m.Newer)
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file %x %d %s\n", f.SHA256[:], f.Bytes, f.Name)
	}
	return b.String()
}

// memberName is what a member may be called: nothing that leads out of a folder.
var memberName = regexp.MustCompile(`^(checkpoint|consistency/(0|[1-9][0-9]{0,18})|entries/(0|[1-9][0-9]{0,18})\.json|proofs/(0|[1-9][0-9]{0,18})\.tlog-proof)$`)

// maxMember is the largest member that is read.
const maxMember = 256 << 20

// ParseManifest reads what Text writes, and nothing else.
func ParseManifest(text string) (*Manifest, error) {
	m := &Manifest{}
	lines := strings.Split(text, "\n")
	if len(lines) < 7 || lines[0] != manifestHeader {
		return nil, fmt.Errorf("the manifest is not one of %q", manifestHeader)
	}
	var err error
	for i, key := range []string{"origin", "size", "query", "tenants", "newer"} {
		value, ok := strings.CutPrefix(lines[1+i], key+" ")
		if ok {
			switch key {
			case "origin":
				m.Origin = value
			case "size":
				m.Size, err = strconv.ParseUint(value, 10, 63)
			case "query":
				m.Query, err = strconv.Unquote(value)
			case "tenants":
				m.Tenants, err = strconv.Unquote(value)
			case "newer":
				m.Newer, err = strconv.ParseUint(value, 10, 63)
			}
		}
		if !ok || err != nil {
			return nil, fmt.Errorf("line %d of the manifest is not %q and a value", 2+i, key)
		}
	}
	seen := map[string]bool{}
	for i, line := range lines[6 : len(lines)-1] {
		f, err := parseFile(line)
		if err != nil {
			return nil, fmt.Errorf("line %d of the manifest: %w", 7+i, err)
		}
		if seen[f.Name] {
			return nil, fmt.Errorf("the manifest names %s twice", f.Name)
		}
		seen[f.Name] = true
		m.Files = append(m.Files, f)
	}
	if m.Text() != text {
		return nil, errors.New("the manifest is not written as it must be")
	}
	return m, nil
}

func parseFile(line string) (f File, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 4 || parts[0] != "file" {
		return f, errors.New(`it is not "file", sum, size and name`)
	}
	sum, err := hex.DecodeString(parts[1])
	if err != nil || len(sum) != len(f.SHA256) {
		return f, errors.New("the sum is not a SHA-256")
	}
	f.SHA256, f.Name = ledger.Hash(sum), parts[3]
	if f.Bytes, err = strconv.ParseInt(parts[2], 10, 64); err != nil || f.Bytes < 0 || f.Bytes > maxMember {
		return f, errors.New("no member is that large")
	}
	if !memberName.MatchString(f.Name) || path.Clean(f.Name) != f.Name {
		return f, fmt.Errorf("no member is called %q", f.Name)
	}
	return f, nil
}
