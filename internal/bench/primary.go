package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"casebook.example/audit/internal/cluster"
)

//go:embed primary.sql
var primarySQL string

// variants are the tables of primary.sql: what the primary pays for.
var variants = [...]struct{ table, title string }{
	{"plain", "no audit"}, {"identity", "REPLICA IDENTITY FULL"}, {"stamped", "FULL and stamps"},
}

// primaryCost gives the transactions a second of each variant, in rounds that take turns. No consumer is attached, and no
// slot is left.
func (w *world) primaryCost(ctx context.Context, rounds int, lasts time.Duration) (tps [len(variants)][]float64, err error) {
	w.say("cost on the primary: pgbench, %d rounds of %d tables, %s each", rounds, len(variants), lasts)
	if _, err := w.atCopy.Exec(ctx, `alter subscription `+copySlot+` set (slot_name = none)`); err != nil {
		return tps, err
	}
	if _, err := w.atSource.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots`); err != nil {
		return tps, err
	}
	if err := cluster.RunSQL(ctx, w.source.DSN(sourceDB, cluster.Superuser), primarySQL); err != nil {
		return tps, err
	}
	for round := range rounds {
		for i := range variants {
			v := (i + round) % len(variants)
			n, err := w.pgbench(ctx, variants[v].table, lasts)
			if err != nil {
				return tps, err
			}
			tps[v] = append(tps[v], n)
		}
	}
	return tps, nil
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

func (w *world) pgbench(ctx context.Context, table string, lasts time.Duration) (float64, error) {
	script := filepath.Join(w.dir, "pgbench.sql")
	text := fmt.Sprintf(`\set id random(1, 20000)
begin;
set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update bench.%s set units = units + 1, status = 'in_progress', lock_version = lock_version + 1, updated_by_id = 'x', updated_at = now() where id = :id;
commit;
`, table)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, w.source.Program("pgbench"), "--no-vacuum", "--client", "2", "--jobs", "2", "--protocol", "prepared",
		"--time", strconv.Itoa(max(1, int(lasts.Seconds()))), "--file", script, w.source.DSN(sourceDB, appRole)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	m := tpsLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench said nothing of transactions a second: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
