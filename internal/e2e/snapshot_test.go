package e2e

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/mapping"
)

// tableMeaning is what the tests need to know of a table, read from the mapping file by its words alone.
type tableMeaning struct {
	Fate   string   `yaml:"fate"`
	Key    []string `yaml:"key"`
	Tenant string   `yaml:"tenant"`
	Masked []string `yaml:"masked"`
	Never  []string `yaml:"never"`
	Noise  []string `yaml:"noise"`
	Soft   []struct {
		Column string `yaml:"column"`
		By     string `yaml:"by"`
		Value  string `yaml:"value"`
	} `yaml:"soft_delete"`
	CustomFields struct {
		Column string `yaml:"column"`
	} `yaml:"custom_fields"`

	columns []string // with audit meaning, in the table's order
}

// meanings reads the mapping of the reference schema: the tables whose changes become entries.
func (w *world) meanings(t *testing.T) map[string]*tableMeaning {
	t.Helper()
	var file struct {
		Tenant string                   `yaml:"tenant"`
		Noise  []string                 `yaml:"noise"`
		Tables map[string]*tableMeaning `yaml:"tables"`
	}
	if err := yaml.Unmarshal([]byte(reference.Mapping), &file); err != nil {
		t.Fatal(err)
	}
	conn := w.sourceConn(t)
	for name, m := range file.Tables {
		if slices.Contains([]string{"labels", "excluded", "off"}, m.Fate) {
			delete(file.Tables, name)
			continue
		}
		if len(m.Key) == 0 {
			m.Key = []string{"id"}
		}
		if m.Tenant == "" {
			m.Tenant = file.Tenant
		}
		// The tenant and a key of one column are columns of the entry.
		without := slices.Concat(file.Noise, m.Noise, []string{m.Tenant})
		if len(m.Key) == 1 {
			without = append(without, m.Key[0])
		}
		rows, err := conn.Query(t.Context(), `select attname from pg_attribute
			where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' and attname <> all($2) order by attnum`, name, without)
		if err == nil {
			m.columns, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return file.Tables
}

// row is a row's columns with audit meaning that are not NULL: "=" and then the value, as the source writes it.
type row map[string]string

// tables are rows by table and key.
type tables map[string]map[string]row

// snapshot reads the audited tables as they are.
func (w *world) snapshot(t *testing.T) tables {
	t.Helper()
	conn := w.sourceConn(t)
	all := tables{}
	for name, m := range w.meanings(t) {
		all[name] = map[string]row{}
		columns := slices.Concat(m.Key, m.columns)
		// The simple protocol: values come as the types' own text, which a cast to text is not always.
		results, err := conn.PgConn().Exec(t.Context(), `set timezone = 'UTC'; set bytea_output = hex; select "`+strings.Join(columns, `", "`)+`" from `+name).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, values := range results[len(results)-1].Rows {
			var key []string
			r := row{}
			for i, v := range values {
				switch {
				case i < len(m.Key):
					key = append(key, string(v))
				case v == nil:
				case columns[i] == m.CustomFields.Column:
					r.spread(t, columns[i], v)
				default:
					r[columns[i]] = "=" + string(v)
				}
			}
			all[name][mapping.RowKey(key...)] = r
		}
	}
	return all
}

// spread puts each key of a jsonb object into a column of its own. A JSON null counts as none.
func (r row) spread(t *testing.T, column string, object []byte) {
	t.Helper()
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(object, &keys); err != nil {
		t.Fatal(err)
	}
	for key, v := range keys {
		if !bytes.Equal(v, []byte("null")) {
			r[column+"."+key] = "=" + jsonText(v)
		}
	}
}

// jsonText is a JSON value as the log writes it: a string without its quotes, the rest as it stands.
func jsonText(v []byte) string {
	var s string
	if bytes.HasPrefix(v, []byte(`"`)) && json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}
