package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"casebook.example/audit/mapping"
	"casebook.example/audit/sql/source"
)

func newMappingCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mapping",
		Short:   "Work on the mapping file",
		Example: "  casebook-audit mapping check mapping.yaml",
	}
	cmd.AddCommand(newMappingDraftCmd(e), newMappingCheckCmd(e))
	return cmd
}

func newMappingCheckCmd(e *env) *cobra.Command {
	var dsn string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Read a mapping file strictly and list what becomes of each table and column",
		Long: `Check reads a mapping file, the configured one when none is named. Its faults are given with line and column. With --dsn it
lists every table and column of that database, and what does not fit it is a finding; without, those that the file names.`,
		Example: "  casebook-audit mapping check deploy/reference/mapping.yaml\n  casebook-audit mapping check mapping.yaml --dsn service=casebook",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := readMapping(e, args)
			if err != nil {
				return err
			}
			columns := map[string][]string{}
			for _, t := range rules.Tables() {
				columns[t.Name] = t.Columns
			}
			c := &checker{cfg: &Config{Mapping: "the mapping file"}, tables: rules.Tables()}
			if dsn != "" {
				if columns, err = compareMapping(cmd.Context(), c, dsn); err != nil {
					return err
				}
			}
			if err := printFates(e, rules, columns, c.findings); err != nil {
				return err
			}
			if n := len(c.findings); n > 0 {
				return &exitError{exitFinding, fmt.Errorf("%d %s", n, plural(n, "finding"))}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dsn, "dsn", "", "compare with this database")
	return cmd
}

// readMapping reads the file that is named, or the configured one.
func readMapping(e *env, args []string) (*mapping.Rules, error) {
	if len(args) == 0 {
		cfg, err := loadConfig(e)
		if err != nil {
			return nil, err
		}
		return loadRules(cfg)
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	rules, err := mapping.Parse(args[0], text)
	if err != nil {
		return nil, &exitError{exitFinding, err}
	}
	return rules, nil
}

// compareMapping lets c look at the database, and gives the columns that its tables have.
func compareMapping(ctx context.Context, c *checker, dsn string) (map[string][]string, error) {
	conn, err := connectAdmin(ctx, "--dsn", dsn)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cat, err := readSourceCatalog(ctx, conn, conn.Config().User, "")
	if err != nil {
		return nil, err
	}
	if err := c.checkMapping(ctx, conn, cat); err != nil {
		return nil, err
	}
	shapes, err := readShapes(ctx, conn)
	if err != nil {
		return nil, err
	}
	columns := map[string][]string{}
	for name, rel := range cat.rels {
		if (rel.kind == "r" || rel.kind == "p") && rel.parentRel == nil && !rel.extension && rel.schema != source.Schema {
			columns[name] = shapes[rel.oid].columns
		}
	}
	return columns, nil
}

type tableFateReport struct {
	mapping.TableFate
	ColumnFates []columnFateReport
}

type columnFateReport struct{ Column, Fate string }

// printFates lists tables, and below each its columns.
func printFates(e *env, rules *mapping.Rules, columns map[string][]string, findings []finding) error {
	var report []tableFateReport
	known := map[string]bool{}
	for _, t := range rules.Tables() {
		known[t.Name] = true
		report = append(report, tableFateReport{TableFate: t})
	}
	for name := range columns {
		if !known[name] {
			report = append(report, tableFateReport{TableFate: mapping.TableFate{Name: name, Fate: "unmapped", Reason: "give it a meaning, or exclude it by name"}})
		}
	}
	slices.SortFunc(report, func(a, b tableFateReport) int { return strings.Compare(a.Name, b.Name) })
	for i := range report {
		for _, column := range columns[report[i].Name] {
			report[i].ColumnFates = append(report[i].ColumnFates, columnFateReport{column, rules.ColumnFate(report[i].Name, column)})
		}
	}
	if e.json {
		if findings == nil {
			findings = []finding{}
		}
		return json.NewEncoder(e.stdout).Encode(map[string]any{"tables": report, "findings": findings})
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, t := range report {
		fmt.Fprintf(w, "%s\t%s\t%s\n", t.Name, t.Fate, t.Reason)
		for _, c := range t.ColumnFates {
			fmt.Fprintf(w, "  %s\t%s\n", c.Column, c.Fate)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		fmt.Fprintf(e.stdout, "\n%s: %s\n  %s\n  %s\n", f.Severity, f.What, f.Why, strings.ReplaceAll(f.Mend, "\n", "\n  "))
		for _, object := range f.Objects {
			fmt.Fprintf(e.stdout, "    %s\n", object)
		}
	}
	return nil
}
