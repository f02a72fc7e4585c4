package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/sql/source"
)

// published lists the mapped tables that exist and can be in a publication.
func (c *checker) published(cat *sourceCatalog) []*relInfo {
	return (&sourcePlan{cat: cat, cfg: c.cfg, tables: c.tables}).published()
}

// checkPublication compares the publication with the mapping, and looks at identity and trigger of each table and
// partition in it.
func (c *checker) checkPublication(cat *sourceCatalog) {
	pub, name := cat.publication, quoteIdent(c.cfg.Source.Publication)
	wanted := c.published(cat)
	if !pub.exists {
		c.add(finding{severityError, "source-publication", "there is no publication " + c.cfg.Source.Publication,
			"The stream would hold nothing.", "casebook-audit setup source --apply, before the slot is made: a slot that is older cannot see it.", nil})
	} else {
		c.checkPublicationOptions(cat, name)
		c.checkPublicationTables(cat, name, wanted)
	}

	var identity, identityMend, virtual, virtualMend, stamps, stampMend, foreign []string
	for _, root := range wanted {
		for _, rel := range root.tree() {
			if rel.kind != "r" && rel.kind != "p" {
				foreign = append(foreign, rel.name())
				continue
			}
			if rel.virtual {
				virtual = append(virtual, rel.name())
				if rel.identity == "f" {
					virtualMend = append(virtualMend, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT;", rel.sql))
				}
			} else if rel.identity != "f" {
				identity = append(identity, fmt.Sprintf("%s (%s)", rel.name(), rel.identityName()))
				identityMend = append(identityMend, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", rel.sql))
			}
			if fault := rel.stampFault(); fault != "" {
				stamps = append(stamps, fmt.Sprintf("%s (%s)", rel.name(), fault))
				stampMend = append(stampMend, fmt.Sprintf("SELECT casebook_audit.cover(%s);", quoteLiteral(rel.sql)))
			}
		}
	}
	c.addList(severityError, "source-identity", identity, "%s without REPLICA IDENTITY FULL",
		"Old values are not in the write-ahead log: the log cannot say what a value was, nor to which record a deleted row belonged.", identityMend)
	c.addList(severityError, "source-identity-virtual", virtual, "%s with a virtual generated column",
		"Postgres refuses every update and delete of such a published table while its identity is FULL. Without FULL the log does not know old values.",
		append(virtualMend, "Make the column STORED, or drop it; then casebook-audit setup source --apply."))
	c.addList(severityError, "source-stamp-trigger", stamps, "%s without a working stamp trigger",
		"Changes made there carry no user, or the user of the statement before.", stampMend)
	c.addList(severityError, "source-partition-foreign", foreign, "%s as a foreign partition of a published table",
		"Its rows live on another server: their changes are not in this one's write-ahead log.",
		[]string{"Audit that server too, or detach the partition."})
}

func (c *checker) checkPublicationOptions(cat *sourceCatalog, name string) {
	pub := &cat.publication
	var missing []string
	for _, operation := range []struct {
		word string
		on   bool
	}{{"insert", pub.insert}, {"update", pub.update}, {"delete", pub.delete}, {"truncate", pub.truncate}} {
		if !operation.on {
			missing = append(missing, operation.word)
		}
	}
	if len(missing) > 0 {
		c.add(finding{severityError, "source-publication-operations", "the publication leaves out " + strings.Join(missing, ", "),
			"Such changes never reach the log.",
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", name), nil})
	}
	if pub.lacksGenerated(cat) {
		c.add(finding{severityError, "source-publication-generated", "publish_generated_columns is off",
			"The server refuses every update and delete of a published table that has a stored generated column: the application fails.",
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish_generated_columns = stored);", name), nil})
	}
	if !pub.viaRoot {
		c.add(finding{severityError, "source-publication-root", "publish_via_partition_root is off",
			"Changes of partitions come under the partitions' names, which the mapping does not know.",
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", name), nil})
	}
	if pub.allTables || len(pub.schemas) > 0 {
		what := "the publication is FOR ALL TABLES"
		if !pub.allTables {
			what = "the publication holds whole schemas: " + strings.Join(pub.schemas, ", ")
		}
		c.add(finding{severityWarning, "source-publication-wide", what,
			"A table that is made later is published at once: updates of it fail when it has no key, and the mapping does not know it.",
			"List the tables instead: drop the publication and run casebook-audit setup source --apply, while the daemon is stopped and has read everything.", nil})
	}
}

func (c *checker) checkPublicationTables(cat *sourceCatalog, name string, wanted []*relInfo) {
	pub := cat.publication
	var missing, missingMend, filtered, filteredMend, unknown, unknownMend []string
	for _, rel := range wanted {
		if !rel.inPublication && !pub.allTables && !slices.Contains(pub.schemas, rel.schema) {
			missing = append(missing, rel.name())
			missingMend = append(missingMend, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s;", name, rel.sql))
		}
		if rel.filtered {
			filtered = append(filtered, rel.name())
			filteredMend = append(filteredMend, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s;", name, rel.sql, name, rel.sql))
		}
	}
	for _, table := range pub.tables {
		if rel := cat.rels[table]; !slices.Contains(wanted, rel) {
			unknown = append(unknown, table)
			unknownMend = append(unknownMend, fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s;", name, rel.sql))
		}
	}
	c.addList(severityError, "source-publication-tables", missing, "the publication lacks %s that the mapping names",
		"Their changes never reach the log.", missingMend)
	c.addList(severityError, "source-publication-filter", filtered, "%s with a row filter or column list",
		"Rows or values are withheld from the log; a row filter even turns updates into inserts and deletes.", filteredMend)
	c.addList(severityError, "source-publication-unmapped", unknown, "the publication holds %s that the mapping gives no meaning",
		"Their changes are either counted and left out, or stop the daemon.",
		append([]string{"Give them a meaning in the mapping, or:"}, unknownMend...))
}

// tableShape is what the mapping may rely on.
type tableShape struct {
	columns   []string
	key       []string // of the primary key
	generated []string
}

// checkMapping compares names: every mapped table and column must exist, every table must be mapped.
func (c *checker) checkMapping(ctx context.Context, conn *pgx.Conn, cat *sourceCatalog) error {
	shapes, err := readShapes(ctx, conn)
	if err != nil {
		return err
	}
	var missing, unusable, columns, generated, keys, keyless []string
	mapped := map[string]bool{}
	for _, t := range c.tables {
		mapped[t.Name] = true
		rel := cat.rels[t.Name]
		switch {
		case rel == nil:
			if t.Published || len(t.Directory) > 0 {
				missing = append(missing, t.Name)
			}
			continue
		case !t.Published && len(t.Directory) == 0:
			continue
		case rel.kind != "r" && rel.kind != "p":
			unusable = append(unusable, t.Name+" (a view or a foreign table)")
			continue
		case rel.persistence != "p":
			unusable = append(unusable, t.Name+" (unlogged)")
			continue
		}
		shape := shapes[rel.oid]
		names := append(slices.Clone(t.Columns), t.Directory...)
		slices.Sort(names)
		for _, column := range slices.Compact(names) {
			switch {
			case !slices.Contains(shape.columns, column):
				columns = append(columns, t.Name+"."+column)
			case slices.Contains(shape.generated, column) && slices.Contains(t.Directory, column):
				generated = append(generated, t.Name+"."+column)
			}
		}
		key := slices.Sorted(slices.Values(t.Key))
		switch {
		case len(shape.key) == 0:
			keyless = append(keyless, t.Name)
		case len(key) > 0 && !slices.Equal(key, slices.Sorted(slices.Values(shape.key))):
			keys = append(keys, fmt.Sprintf("%s (mapping: %s; primary key: %s)", t.Name, strings.Join(t.Key, ", "), strings.Join(shape.key, ", ")))
		}
	}
	var unmapped []string
	for _, name := range slices.Sorted(maps.Keys(cat.rels)) {
		rel := cat.rels[name]
		if (rel.kind == "r" || rel.kind == "p") && rel.parentRel == nil && !rel.extension && rel.schema != source.Schema && !mapped[name] {
			unmapped = append(unmapped, name)
		}
	}
	c.addList(severityError, "mapping-table-missing", missing, "the mapping names %s that the source does not have",
		"Either the name is wrong, or changes of a renamed table are missed.", []string{"Correct the mapping file (" + c.cfg.Mapping + ")."})
	c.addList(severityError, "mapping-table-unusable", unusable, "the mapping names %s whose changes are not in the write-ahead log",
		"No entry can come of them.", []string{"Name the tables below a view; ALTER TABLE ... SET LOGGED for an unlogged one."})
	if len(columns) > 0 {
		c.add(finding{severityError, "mapping-column-missing", fmt.Sprintf("the mapping names %d %s that the source does not have", len(columns), plural(len(columns), "column")),
			"What the mapping wants to say of it cannot be said.", "Correct the mapping file (" + c.cfg.Mapping + ").", columns})
	}
	if len(generated) > 0 {
		c.add(finding{severityError, "mapping-column-generated", fmt.Sprintf("names or owners use %d generated %s", len(generated), plural(len(generated), "column")),
			"Before Postgres 18 the stream does not hold generated columns: the names would be empty.", "Build the name from the columns that the generated one is made of.", generated})
	}
	c.addList(severityError, "mapping-key", keys, "%s with another primary key than the mapping's",
		"Two rows could be taken for one.", []string{"Set key in the mapping to the primary key."})
	c.addList(severityWarning, "mapping-key-none", keyless, "%s without a primary key",
		"Nothing keeps two rows from being taken for one.", []string{"ALTER TABLE ... ADD PRIMARY KEY (...);"})
	c.addList(severityError, "mapping-table-unmapped", unmapped, "%s that the mapping does not name",
		"Their changes are not in the log, and nobody decided so.",
		[]string{"Give each a meaning in the mapping, or exclude it there by name; then casebook-audit setup source --apply."})
	return nil
}

func readShapes(ctx context.Context, conn *pgx.Conn) (map[uint32]tableShape, error) {
	rows, err := conn.Query(ctx, `
		SELECT c.oid,
		  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
		  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''),
		  ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, n)
		        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
		        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.n)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	shapes := map[uint32]tableShape{}
	for rows.Next() {
		var oid uint32
		var shape tableShape
		if err := rows.Scan(&oid, &shape.columns, &shape.generated, &shape.key); err != nil {
			return nil, err
		}
		shapes[oid] = shape
	}
	return shapes, rows.Err()
}
