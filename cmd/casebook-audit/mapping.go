package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"casebook.example/audit/mapping"
)

func newMappingCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mapping",
		Short:   "Work on the mapping file",
		Example: "  casebook-audit mapping check mapping.yaml",
	}
	cmd.AddCommand(newMappingDraftCmd(e), &cobra.Command{
		Use:   "check [FILE]",
		Short: "Read a mapping file strictly and list what becomes of each table",
		Long: `Check reads a mapping file, the configured one when none is named. Its faults are given with line and column. Whether the
tables and columns exist in the source is a matter of "casebook-audit check".`,
		Example: "  casebook-audit mapping check deploy/reference/mapping.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var rules *mapping.Rules
			if len(args) == 1 {
				text, err := os.ReadFile(args[0])
				if err != nil {
					return &exitError{exitUsage, err}
				}
				if rules, err = mapping.Parse(args[0], text); err != nil {
					return &exitError{exitFinding, err}
				}
			} else {
				cfg, err := loadConfig(e)
				if err != nil {
					return err
				}
				if rules, err = loadRules(cfg); err != nil {
					return err
				}
			}
			tables := rules.Tables()
			if e.json {
				return json.NewEncoder(e.stdout).Encode(tables)
			}
			t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "TABLE\tFATE\tKEY\tWHY")
			for _, table := range tables {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", table.Name, table.Fate, strings.Join(table.Key, ", "), table.Reason)
			}
			return t.Flush()
		},
	})
	return cmd
}
