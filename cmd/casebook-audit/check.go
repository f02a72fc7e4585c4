package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"casebook.example/audit/capture"
	"casebook.example/audit/mapping"
)

func newCheckCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what would make the log incomplete, wrong or dangerous, and how to mend it",
		Long: `Check connects to both databases as the daemon does, changes nothing, and prints what it would have otherwise, each
with the reason and the SQL or setting that mends it. An error makes the log incomplete or wrong; a warning is something
that stands between it and harm.

It ends with 0 when there is nothing to mend, 1 when there is, 3 when a database could not be asked.`,
		Example: "  casebook-audit check\n  casebook-audit check --json | jq '.findings[].code'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			rules, err := loadRules(cfg)
			if err != nil {
				return err
			}
			c := &checker{cfg: cfg, tables: rules.Tables()}
			unreachable := c.run(cmd.Context())
			code, err := c.report(e.stdout, e.json, unreachable)
			if err != nil || code == exitDone {
				return err
			}
			return &exitError{code: code}
		},
	}
}

// severity says what a finding does to the log.
type severity string

const (
	severityError   severity = "error"   // the log is incomplete or wrong, or will be
	severityWarning severity = "warning" // it holds today, but something stands between it and harm
)

// finding is one thing that check would have otherwise. Code is stable: scripts may rely on it.
type finding struct {
	Severity severity `json:"severity"`
	Code     string   `json:"code"`
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Mend     string   `json:"mend"`
	Objects  []string `json:"objects,omitempty"` // the tables or columns it is about
}

// checker collects findings. A probe that cannot be made is an error of its own, never silence.
type checker struct {
	cfg      *Config
	tables   []mapping.TableFate
	findings []finding

	source, audit *side
	chain         chainState
}

// side is one database as check found it.
type side struct {
	name     string // "source" or "audit"
	about    string // for the last line of the text
	clock    clockReading
	systemID string

	slot      capture.SlotInfo // of the source
	slotFound bool
}

func (c *checker) add(f finding) { c.findings = append(c.findings, f) }

// run makes all probes. The error is of a database that cannot be reached or asked; the findings so far stay. The source
// is asked first: its slot moves only after the chain has, so a daemon that works meanwhile cannot look like a gap.
func (c *checker) run(ctx context.Context) error {
	err := errors.Join(c.checkSource(ctx), c.checkAudit(ctx))
	c.checkFit()
	if c.source != nil && c.audit != nil {
		c.findings = append(c.findings, clockFindings(c.source.clock, c.audit.clock)...)
	}
	return err
}

// clockReading is the difference between a server's clock and ours, and how far off the measurement may be.
type clockReading struct {
	name            string
	offset, unknown time.Duration
}

// readClock asks a few times and keeps the quickest answer: the server's time lies somewhere within the round trip.
func readClock(ctx context.Context, conn *pgx.Conn, name string) (clockReading, error) {
	best := clockReading{name: name, unknown: time.Hour}
	for range 3 {
		var there time.Time
		start := time.Now()
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
			return best, err
		}
		if trip := time.Since(start); trip/2 < best.unknown {
			best.offset, best.unknown = there.Sub(start.Add(trip/2)), trip/2
		}
	}
	return best, nil
}

// maxClockDifference is as much as an entry's times may contradict each other.
const maxClockDifference = 2 * time.Second

func clockFindings(source, audit clockReading) []finding {
	var findings []finding
	daemon := clockReading{name: "this machine"}
	for _, pair := range [][2]clockReading{{source, daemon}, {audit, daemon}, {source, audit}} {
		difference := (pair[0].offset - pair[1].offset).Abs() - pair[0].unknown - pair[1].unknown
		if difference <= maxClockDifference {
			continue
		}
		findings = append(findings, finding{severityWarning, "clock",
			fmt.Sprintf("the clocks of %s and %s differ by %v", pair[0].name, pair[1].name, difference.Round(100*time.Millisecond)),
			"Entries carry the source's commit time and the time at which they were recorded; an auditor compares them, and the lag that is measured is wrong.",
			"Run NTP (chrony, systemd-timesyncd) on both machines.", nil})
	}
	return findings
}

// transportFinding warns of a connection over a network that anybody on the way can read.
func transportFinding(setting string, conn net.Conn) []finding {
	encrypted := false
	if _, ok := conn.(*tls.Conn); ok {
		encrypted = true
	}
	if encrypted || isLocal(conn.RemoteAddr()) {
		return nil
	}
	return []finding{{severityWarning, "tls", setting + " is not encrypted, and leads to another machine",
		"Everything that is audited travels over it in clear text, and passwords may.",
		"Set ssl = on at the server and sslmode=verify-full (with sslrootcert) in " + setting + ".", nil}}
}

func isLocal(addr net.Addr) bool {
	if addr == nil || addr.Network() == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(addr.String())
	return err == nil && net.ParseIP(host) != nil && net.ParseIP(host).IsLoopback()
}

// report prints the findings, errors first, and gives the exit code.
func (c *checker) report(w io.Writer, asJSON bool, unreachable error) (int, error) {
	code := exitDone
	if len(c.findings) > 0 {
		code = exitFinding
	}
	if unreachable != nil {
		code = exitUnreachable
	}
	if asJSON {
		out := struct {
			Findings []finding `json:"findings"`
			Errors   []string  `json:"unreachable,omitempty"`
		}{append([]finding{}, c.findings...), nil}
		if unreachable != nil {
			out.Errors = strings.Split(unreachable.Error(), "\n")
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return code, enc.Encode(out)
	}
	var b strings.Builder
	counts := map[severity]int{}
	for _, severity := range []severity{severityError, severityWarning} {
		for _, f := range c.findings {
			if f.Severity != severity {
				continue
			}
			counts[severity]++
			fmt.Fprintf(&b, "%s  %s: %s\n", strings.ToUpper(string(severity)), f.Code, f.What)
			for _, object := range f.Objects {
				fmt.Fprintf(&b, "    %s\n", object)
			}
			fmt.Fprintf(&b, "  Why:  %s\n  Mend: %s\n\n", f.Why, strings.ReplaceAll(f.Mend, "\n", "\n        "))
		}
	}
	for _, side := range []*side{c.source, c.audit} {
		if side != nil && side.about != "" {
			fmt.Fprintf(&b, "%s: %s\n", side.name, side.about)
		}
	}
	switch {
	case unreachable != nil:
		fmt.Fprintf(&b, "NOT CHECKED: %s\n", strings.ReplaceAll(unreachable.Error(), "\n", "\nNOT CHECKED: "))
	case len(c.findings) == 0:
		b.WriteString("Nothing to mend.\n")
	}
	if len(c.findings) > 0 {
		fmt.Fprintf(&b, "%d %s, %d %s.\n", counts[severityError], plural(counts[severityError], "error"),
			counts[severityWarning], plural(counts[severityWarning], "warning"))
	}
	_, err := io.WriteString(w, b.String())
	return code, err
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
