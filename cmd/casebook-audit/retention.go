package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"casebook.example/audit/removal"
)

// RetentionClass says how long the entries of an application are kept.
type RetentionClass struct {
	Application string `yaml:"application"` // "*": of all others, entries without an application included
	Keep        string `yaml:"keep"`        // years, months, days: 7y
}

// classesAt are the parsed classes as of a moment.
func classesAt(list []RetentionClass, now time.Time) (classes []removal.Class, err error) {
	seen := map[string]bool{}
	for _, c := range list {
		kept, err := parseSpan(c.Keep)
		switch {
		case c.Application == "":
			return nil, errors.New(`retention: a class without an application: name one, or "*" for all others`)
		case seen[c.Application]:
			return nil, fmt.Errorf("retention: two classes for %q", c.Application)
		case err != nil:
			return nil, fmt.Errorf("retention: %s: %w", c.Application, err)
		}
		seen[c.Application] = true
		classes = append(classes, removal.Class{Application: c.Application, KeptSince: kept.before(now)})
	}
	return classes, nil
}

func newRetentionCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "retention",
		Short: "List the months of the log, which of them are past their retention, and what holds the others",
		Long: `Retention reads the classes of the configuration and lists each month of the log: how many entries it has, and why it is still
kept: a class, a legal hold (redact hold), or entries at the open end of the tree. A month is past as a whole or not at all. It
changes nothing: this version drops no months.`,
		Example: "  casebook-audit retention --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			classes, err := classesAt(cfg.Retention, time.Now())
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				months, err := d.Months(cmd.Context(), classes)
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(months)
				}
				w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
				fmt.Fprintln(w, "month\tentries\tkept because of")
				for _, m := range months {
					why := "nothing: past its retention"
					if !m.Past {
						why = strings.Join(m.Held, "; ")
					}
					fmt.Fprintf(w, "%s\t%d\t%s\n", m.Month, m.Entries, why)
				}
				return w.Flush()
			})
		},
	}
}
