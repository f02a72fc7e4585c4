package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"casebook.example/audit/mapping"
	"casebook.example/audit/mapping/draft"
	"casebook.example/audit/sql/source"
)

func newMappingDraftCmd(e *env) *cobra.Command {
	var dsn, output string
	var schemas []string
	cmd := &cobra.Command{
		Use:   "draft",
		Short: "Propose a mapping file out of the source's catalog",
		Long: `Draft reads the catalog of the source, and no row of any table: keys, foreign keys, pairs of a type and an id, allowed
values, comments. It writes a mapping file that "mapping check" accepts, with the reason or the guess beside each line. Read
it, correct it, and hold it against the database with "casebook-audit check".`,
		Example: "  casebook-audit mapping draft --output mapping.yaml\n  casebook-audit mapping draft --dsn service=casebook --schema cases --schema people",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dsn == "" {
				cfg, err := loadConfig(e)
				if err != nil {
					return fmt.Errorf("no --dsn, and %w", err)
				}
				dsn = cfg.Source.DSN
			}
			conn, err := connectAdmin(cmd.Context(), "--dsn or source.dsn", dsn)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(cmd.Context()))
			catalog, database, err := readDraftCatalog(cmd.Context(), conn, schemas)
			if err != nil {
				return err
			}
			if len(catalog.Tables) == 0 {
				return &exitError{exitFinding, fmt.Errorf("database %s has no tables that this role can see in %s", database, strings.Join(schemas, ", "))}
			}
			text := draft.Write(catalog, database)
			if _, err := mapping.Parse("draft", []byte(text)); err != nil {
				fmt.Fprintln(e.stderr, "the draft needs a hand before it can count:", err)
			}
			return writeDraft(e.stdout, output, text)
		},
	}
	cmd.Flags().StringVar(&dsn, "dsn", "", "the database (default: source.dsn of the configuration)")
	cmd.Flags().StringArrayVar(&schemas, "schema", nil, "only this schema; may be given again (default: all but the system's)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this new file instead of standard output")
	return cmd
}

// writeDraft never overwrites: the file may hold hours of somebody's work.
func writeDraft(stdout io.Writer, output, text string) error {
	if output == "" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return &exitError{exitUsage, fmt.Errorf("%s is there already: name another file", output)}
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

const draftTables = `
SELECT c.oid, n.nspname || '.' || c.relname, coalesce(obj_description(c.oid, 'pg_class'), ''), c.relpersistence = 'u',
  ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.n)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1) AND n.nspname !~ '^pg_(toast|temp)'
  AND (cardinality($2::text[]) = 0 OR n.nspname = ANY ($2))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 2`

// The values of an enum, also behind a domain; or the most common ones, where the statistics may be read.
const draftColumns = `
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), coalesce(col_description(a.attrelid, a.attnum), ''), a.attnotnull, a.attgenerated <> '',
  coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
            WHERE e.enumtypid = CASE WHEN t.typbasetype <> 0 THEN t.typbasetype ELSE t.oid END), '{}'),
  coalesce((SELECT s.most_common_vals::text::text[] FROM pg_stats s JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
              AND a.attname ~ '(type|kind|table|class)(_id)?$' AND s.n_distinct BETWEEN 1 AND 40), '{}'),
  t.typcategory = 'N'
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum`

const draftKeys = `
SELECT k.conrelid, k.contype::text, k.conname::text,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (num, n) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.n),
  coalesce((SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = k.confrelid), ''),
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (num, n) JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.n),
  k.confdeltype::text, CASE WHEN k.contype = 'c' THEN pg_get_constraintdef(k.oid) ELSE '' END
FROM pg_constraint k WHERE k.conrelid = ANY ($1) AND k.contype IN ('f', 'c') ORDER BY k.conrelid, k.conname`

// readDraftCatalog reads the catalog in one read-only transaction.
func readDraftCatalog(ctx context.Context, conn *pgx.Conn, schemas []string) (*draft.Catalog, string, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, "", err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil {
		return nil, "", err
	}
	var database string
	if err := tx.QueryRow(ctx, "SELECT current_database()").Scan(&database); err != nil {
		return nil, "", err
	}
	if schemas == nil {
		schemas = []string{}
	}
	catalog, tables := &draft.Catalog{}, map[uint32]*draft.Table{}
	var oids []uint32
	each := func(sql string, args []any, scan func(pgx.Rows) error) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
	err = each(draftTables, []any{source.Schema, schemas}, func(rows pgx.Rows) error {
		var oid uint32
		t := &draft.Table{}
		if err := rows.Scan(&oid, &t.Name, &t.Comment, &t.Unlogged, &t.Key); err != nil {
			return err
		}
		catalog.Tables, tables[oid], oids = append(catalog.Tables, t), t, append(oids, oid)
		return nil
	})
	if err == nil {
		err = each(draftColumns, []any{oids}, func(rows pgx.Rows) error {
			var oid uint32
			var common []string
			c := &draft.Column{}
			if err := rows.Scan(&oid, &c.Name, &c.Type, &c.Comment, &c.NotNull, &c.Generated, &c.Values, &common, &c.Numbers); err != nil {
				return err
			}
			if len(c.Values) == 0 {
				c.Values = common
			}
			tables[oid].Columns = append(tables[oid].Columns, c)
			return nil
		})
	}
	if err == nil {
		err = each(draftKeys, []any{oids}, func(rows pgx.Rows) error {
			var oid uint32
			var kind, definition, onDelete string
			fk := &draft.ForeignKey{}
			if err := rows.Scan(&oid, &kind, &fk.Name, &fk.Columns, &fk.Table, &fk.To, &onDelete, &definition); err != nil {
				return err
			}
			t := tables[oid]
			if kind == "f" {
				fk.Cascade, fk.SetToNull = onDelete == "c", onDelete == "n"
				t.ForeignKeys = append(t.ForeignKeys, fk)
			} else if len(fk.Columns) == 1 {
				for _, c := range t.Columns {
					if values := checkedValues(definition); c.Name == fk.Columns[0] && len(values) > 0 {
						c.Values, c.Numbers = values, false
					}
				}
			}
			return nil
		})
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the catalog: %w", err)
	}
	return catalog, database, nil
}

var (
	checkAny  = regexp.MustCompile(`= ANY \(+ARRAY\[(.*?)\]`)
	checkText = regexp.MustCompile(`'((?:[^']|'')*)'::`)
)

// checkedValues reads the list out of CHECK (kind = ANY (ARRAY['a'::text, 'b'::text])), as the server writes such a check.
func checkedValues(definition string) (values []string) {
	list := checkAny.FindStringSubmatch(definition)
	if list == nil {
		return nil
	}
	for _, m := range checkText.FindAllStringSubmatch(list[1], -1) {
		values = append(values, strings.ReplaceAll(m[1], "''", "'"))
	}
	return values
}
