package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program and of its ledger format",
		Example: "  casebook-audit version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				version = info.Main.Version
			}
			if e.json {
				return json.NewEncoder(e.stdout).Encode(map[string]any{"version": version, "ledger_format": 1})
			}
			_, err := fmt.Fprintf(e.stdout, "casebook-audit %s, ledger format 1\n", version)
			return err
		},
	}
}
