// Package draft proposes a mapping file for a database that nobody has mapped yet, out of its catalog: keys, foreign keys,
// pairs of a type and an id, comments, and the names that people give to columns. What it cannot know it guesses, and says
// so beside the guess; a person reads the file before it counts.
//
// The steps, each in a file of its own: what each table is (classify.go), to which record its rows belong (owners.go),
// what its columns are (columns.go), and the text (render.go). The same catalog gives the same text.
package draft

// Catalog is what a database says of itself. Order does not matter.
type Catalog struct {
	Tables []*Table
}

// Table is an ordinary or a partitioned table; a partition is not one of its own.
type Table struct {
	Name        string // schema.name
	Comment     string
	Columns     []*Column // in their order
	Key         []string  // columns of the primary key
	ForeignKeys []*ForeignKey
	Unlogged    bool
}

// Column is a column that is not dropped.
type Column struct {
	Name      string
	Type      string // as format_type writes it
	Comment   string
	NotNull   bool
	Generated bool
	Values    []string // the only ones that an enum or a CHECK allows, or else the most common ones
	Numbers   bool     // Values that are common are of a number's type: they stand for something else
}

// ForeignKey refers to another table's row.
type ForeignKey struct {
	Name      string
	Columns   []string
	Table     string
	To        []string
	Cascade   bool // the row goes with the other one
	SetToNull bool // or stays without it
}

func (t *Table) column(name string) *Column {
	for _, c := range t.Columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}
