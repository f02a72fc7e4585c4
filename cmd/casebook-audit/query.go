package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"casebook.example/audit/query"
)

// filterFlags are the filters that query and export share with the endpoint.
type filterFlags struct {
	values  map[string]*string
	tenants []string
}

func addFilterFlags(cmd *cobra.Command) *filterFlags {
	f := &filterFlags{values: map[string]*string{}}
	for _, flag := range []struct{ name, parameter, usage string }{
		{"application", "application", "Engage, Intake, Providers or People"},
		{"record", "record", "name of the record, any that it ever had"},
		{"record-id", "record_id", "id of the record"},
		{"from", "from", "first day, or time like 2026-03-10T14:02:00Z"},
		{"to", "to", "last day, or time"},
		{"user", "user", "e-mail or id of the user"},
		{"action", "action", "create, update or delete"},
		{"resource", "resource", "as the help page names it: Notes, Service Enrollment"},
		{"initiator", "initiator", "user, application, system, operator or unattributed"},
		{"text", "q", "part of a changed value, within one record"},
		{"transaction", "transaction", "commit LSN or number of a transaction of the source"},
		{"tz", "tz", "time zone that days are meant in, such as America/New_York (default UTC)"},
		{"order", "order", "newest (default) or oldest"},
	} {
		f.values[flag.parameter] = cmd.Flags().String(flag.name, "", flag.usage)
	}
	cmd.Flags().StringSliceVar(&f.tenants, "tenant", []string{query.AllTenants}, "tenants to read for")
	return f
}

func (f *filterFlags) filter() (query.Filter, error) {
	p := map[string]string{}
	for name, value := range f.values {
		p[name] = *value
	}
	filter, errs := query.ParseFilter(p)
	if len(errs) > 0 {
		flag := strings.ReplaceAll(errs[0].Parameter, "_", "-")
		if flag == "q" {
			flag = "text"
		}
		return filter, &exitError{exitUsage, fmt.Errorf("--%s: %s", flag, errs[0].Message)}
	}
	return filter, nil
}

func (f *filterFlags) caller() *query.Caller {
	return &query.Caller{Name: "casebook-audit", Tenants: f.tenants}
}

// readerConn opens the configured reader.
func readerConn(ctx context.Context, e *env) (*Config, *pgx.Conn, error) {
	cfg, err := loadConfig(e)
	if err != nil {
		return nil, nil, err
	}
	conn, err := connectAdmin(ctx, "audit.reader_dsn", cfg.Audit.ReaderDSN)
	return cfg, conn, err
}

func newQueryCmd(e *env) *cobra.Command {
	var limit int
	var expand bool
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print entries of the log",
		Long: `Query prints the entries that a filter names, newest first, as the endpoint would give them. It reads the audit database
directly, through audit.reader_dsn: whoever may read that role's password needs no token, and the read is not in the log.`,
		Example: "  casebook-audit query --application Engage --record 'J. Sullivan Case' --from 2026-03-01 --expand\n  casebook-audit query --user kyle.rowan@hfs.example --action delete --json",
		Args:    cobra.NoArgs,
	}
	flags := addFilterFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "number of entries")
	cmd.Flags().BoolVar(&expand, "expand", false, "print the changes below each entry")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, err := flags.filter()
		if err != nil {
			return err
		}
		if limit < 1 {
			return &exitError{exitUsage, errors.New("--limit must be 1 or more")}
		}
		cfg, conn, err := readerConn(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(cmd.Context()))
		list, err := query.ListEntries(cmd.Context(), conn, cfg.Audit.Chain, flags.caller(), filter, query.Page{Limit: limit})
		if err != nil {
			return &exitError{exitUnreachable, fmt.Errorf("read the log: %w", err)}
		}
		if e.json {
			return json.NewEncoder(e.stdout).Encode(list)
		}
		return printEntries(e.stdout, list, expand)
	}
	return cmd
}

func printEntries(w io.Writer, list *query.List, expand bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEQ\tTIME (UTC)\tUSER\tACTION\tWHERE\tWHAT")
	for _, entry := range list.Entries {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", entry.Seq, plain(strings.Replace(entry.CommittedAt[:19], "T", " ", 1)), plain(who(entry.Actor)), plain(entry.Action),
			plain(where(entry)), plain(what(entry)))
		if !expand {
			continue
		}
		for _, c := range entry.Changes {
			fmt.Fprintf(t, "\t\t\t\t  %s\t%s\n", plain(c.Label), plain(change(c)))
		}
		for _, r := range entry.Also {
			fmt.Fprintf(t, "\t\t\t\t  also under\t%s\n", plain(r.Application+" / "+r.Name))
		}
	}
	if list.Next != "" {
		fmt.Fprintln(t, "There are more: raise --limit, or narrow the dates.\t\t\t\t\t")
	}
	return t.Flush()
}

// plain keeps what somebody typed into the application from steering a terminal.
func plain(s string) string {
	s = strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
}

func who(a query.Actor) string {
	name := a.Email
	if name == "" {
		name = a.Name
	}
	if name == "" {
		name = a.UserID
	}
	switch {
	case a.Initiator == "system":
		return "System"
	case name == "" && a.DBUser != "":
		return a.Initiator + " " + a.DBUser
	case name == "":
		return a.Initiator
	}
	return name
}

func where(e *query.Entry) string {
	parts := []string{}
	if e.Record != nil {
		parts = append(parts, e.Record.Application, e.Record.Name)
	}
	resource := e.Resource
	if e.SubResource != "" && e.SubResource != e.Resource {
		resource += " > " + e.SubResource
	}
	return strings.Join(append(parts, resource), " / ")
}

func what(e *query.Entry) string {
	if e.RowName == "" || e.SubResource == "" {
		return e.Summary
	}
	return e.Summary + ": " + e.RowName
}

func change(c query.Change) string {
	show := func(v *query.Value) string {
		switch {
		case v == nil:
			return ""
		case v.State == "value" && v.Name != "":
			return v.Name + " (" + *v.Value + ")"
		case v.State == "value" && c.Restricted:
			return fmt.Sprintf("(restricted, %d characters)", len([]rune(*v.Value)))
		case v.State == "value":
			return *v.Value
		default:
			return "(" + v.State + ")"
		}
	}
	switch {
	case c.Old == nil:
		return show(c.New)
	case c.New == nil:
		return "was " + show(c.Old)
	}
	return show(c.Old) + " -> " + show(c.New)
}

func newExportCmd(e *env) *cobra.Command {
	var format, output string
	var since []string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write all entries of a filter to a file",
		Long: `Export writes every entry that a filter names, of any number, as CSV or NDJSON. The last line says that the file is whole:
its number of rows and the SHA-256 of all bytes before that line (head -n -1 FILE | sha256sum).

As a bundle it writes up to 100,000 entries with their proofs, for verify-bundle; --since SIZE adds the proof that the log
begins with an earlier checkpoint. As tiles it writes the whole tree of the log, without content, into the folder --output,
as https://c2sp.org/tlog-tiles, or brings such a folder up to date; filters do not count.`,
		Example: "  casebook-audit export --from 2026-03-01 --to 2026-03-31 --output march.csv\n  casebook-audit export --format ndjson --output - | jq .summary\n" +
			"  casebook-audit export --format bundle --record 'J. Sullivan Case' --output evidence.zip\n  casebook-audit export --format tiles --output mirror",
		Args: cobra.NoArgs,
	}
	flags := addFilterFlags(cmd)
	cmd.Flags().StringVar(&format, "format", "csv", "csv, ndjson, bundle or tiles")
	cmd.Flags().StringVar(&output, "output", "-", "file, - is the standard output; for tiles a folder")
	cmd.Flags().StringSliceVar(&since, "since", nil, "for bundles: sizes of earlier checkpoints")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		filter, err := flags.filter()
		if err != nil {
			return err
		}
		switch query.Format(format) {
		case query.FormatCSV, query.FormatNDJSON:
		case query.FormatBundle:
			return exportBundle(cmd.Context(), e, flags, filter, since, output)
		case formatTiles:
			return exportTiles(cmd.Context(), e, output)
		default:
			return &exitError{exitUsage, fmt.Errorf("--format %q: must be csv, ndjson, bundle or tiles", format)}
		}
		cfg, conn, err := readerConn(cmd.Context(), e)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(cmd.Context()))
		var trailer *query.Trailer
		err = writeOutput(e, output, func(w io.Writer) error {
			bar := newProgress(e.stderr, "export")
			defer bar.done()
			trailer, err = query.Export(cmd.Context(), conn, cfg.Audit.Chain, flags.caller(), filter, query.Format(format), w, func(rows int64) { bar.set(uint64(rows), 0) })
			if err != nil {
				return &exitError{exitUnreachable, fmt.Errorf("export: the file is not whole: %w", err)}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if output != "-" {
			fmt.Fprintf(e.stderr, "%d rows, sha256 %s\n", trailer.Rows, trailer.SHA256)
		}
		return nil
	}
	return cmd
}

func newStatusCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Say how far the log reaches",
		Example: "  casebook-audit status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, conn, err := readerConn(cmd.Context(), e)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(cmd.Context()))
			status, err := query.ReadStatus(cmd.Context(), conn, cfg.Audit.Chain)
			if err != nil {
				return &exitError{exitUnreachable, fmt.Errorf("read the position: %w", err)}
			}
			if e.json {
				return json.NewEncoder(e.stdout).Encode(status)
			}
			complete := status.CompleteTo
			if complete == "" {
				complete = "nothing yet"
			} else {
				complete += fmt.Sprintf(" (%s ago)", time.Duration(status.LagSeconds*float64(time.Second)).Round(time.Second))
			}
			_, err = fmt.Fprintf(e.stdout, "Chain          %s\nEntries        %d\nComplete up to %s\nLast commit    %s, LSN %s\n", status.Chain, status.Size, complete, status.LastCommit, status.CommitLSN)
			return err
		},
	}
}
