package query

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// AllTenants, as the only element of Caller.Tenants, stands for every tenant and for what belongs to none.
const AllTenants = "*"

// Caller is who asks.
type Caller struct {
	Name    string
	Tenants []string
}

// All says that the caller sees every tenant.
func (c *Caller) All() bool { return len(c.Tenants) == 1 && c.Tenants[0] == AllTenants }

// Tokens are the callers that are let in. The zero value lets nobody in.
type Tokens struct {
	list []token
}

type token struct {
	sum    [sha256.Size]byte
	caller Caller
}

// LoadTokens reads a file of hashed tokens: a YAML list of
//
//   - name: compliance desk       # shown in the log of accesses
//     sha256: 5e884898da28...     # of the token, hexadecimal: printf %s "$TOKEN" | sha256sum
//     tenants: [t1, t2]           # ids; ["*"] is every tenant
//
// Unknown keys, doubled tokens and a file that others may write are errors. No error holds a token.
func LoadTokens(path string) (*Tokens, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("tokens file %s may be written by group or others: chmod go-w %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokens file: %w", err)
	}
	return parseTokens(path, text)
}

func parseTokens(path string, text []byte) (*Tokens, error) {
	var entries []struct {
		Name    string   `yaml:"name"`
		SHA256  string   `yaml:"sha256"`
		Tenants []string `yaml:"tenants"`
	}
	if err := yaml.UnmarshalWithOptions(text, &entries, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("tokens file %s: %s", path, yaml.FormatError(err, false, false))
	}
	tokens := &Tokens{}
	for i, e := range entries {
		sum, err := hex.DecodeString(e.SHA256)
		switch {
		case strings.TrimSpace(e.Name) == "":
			return nil, fmt.Errorf("tokens file %s: entry %d has no name", path, i+1)
		case !plainText(e.Name):
			return nil, fmt.Errorf("tokens file %s: the name of entry %d holds control characters or is not UTF-8", path, i+1)
		case err != nil || len(sum) != sha256.Size:
			return nil, fmt.Errorf("tokens file %s: sha256 of %q is not 64 hexadecimal digits: printf %%s \"$TOKEN\" | sha256sum", path, e.Name)
		case len(e.Tenants) == 0:
			return nil, fmt.Errorf("tokens file %s: %q has no tenants: name them, or [\"*\"] for every one", path, e.Name)
		case slices.Contains(e.Tenants, AllTenants) && len(e.Tenants) > 1:
			return nil, fmt.Errorf("tokens file %s: %q has \"*\" beside other tenants: which is meant?", path, e.Name)
		}
		for _, tenant := range e.Tenants {
			if tenant == "" || strings.Contains(tenant, ",") || !plainText(tenant) {
				return nil, fmt.Errorf("tokens file %s: %q has a tenant that is empty or holds a comma or a control character", path, e.Name)
			}
		}
		t := token{sum: [sha256.Size]byte(sum), caller: Caller{Name: e.Name, Tenants: e.Tenants}}
		for _, other := range tokens.list {
			if other.sum == t.sum {
				return nil, fmt.Errorf("tokens file %s: %q and %q have the same token", path, other.caller.Name, e.Name)
			}
		}
		tokens.list = append(tokens.list, t)
	}
	return tokens, nil
}

// caller finds who sends a request.
func (t *Tokens) caller(r *http.Request) (*Caller, bool) {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return nil, false
	}
	found := t.find(given)
	if found == nil {
		return nil, false
	}
	return &found.caller, true
}

// find compares all tokens, each in constant time; nil: nobody has it.
func (t *Tokens) find(given string) *token {
	if t == nil || given == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(given))
	var found *token
	for i := range t.list {
		if subtle.ConstantTimeCompare(sum[:], t.list[i].sum[:]) == 1 {
			found = &t.list[i]
		}
	}
	return found
}
