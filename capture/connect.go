package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Config says what to read and how. Zero durations and sizes mean the defaults.
type Config struct {
	DSN         string
	Slot        string
	Publication string
	SkipThrough LSN      // transactions with a commit LSN up to this one are stored already
	Messages    []string // prefixes of messages for which a transaction is delivered even without a row change
	Failover    bool     // CreateSlot: let the slot go over to standbys; Postgres 17 and later

	SpillBytes     int           // memory of a transaction before it goes to a file, default 32 MiB
	SpillDir       string        // default: the system's folder for temporary files
	StatusInterval time.Duration // default: a third of wal_sender_timeout, at most 10 s
	IdleInterval   time.Duration // at most one Event.Idle in this time, default 10 s
}

const (
	defaultSpillBytes   = 32 << 20
	maxStatusInterval   = 10 * time.Second
	defaultIdleInterval = 10 * time.Second
	connectTimeout      = 10 * time.Second // unless the DSN has its own
	receiveBuffer       = 64 << 10         // the walsender flushes each change: fewer, larger reads
	oldestServer        = 14               // logical messages came with it
)

const applicationName = "casebook-audit"

// sessionParams pin all that the text of a value depends on, so that stream and snapshot, today's and tomorrow's, give
// the same text for the same value; and switch off the limits that a role may carry, which would cut us off.
var sessionParams = map[string]string{
	"application_name":                    applicationName,
	"client_encoding":                     "UTF8",
	"datestyle":                           "ISO",
	"intervalstyle":                       "postgres",
	"extra_float_digits":                  "3",
	"timezone":                            "UTC",
	"bytea_output":                        "hex",
	"lc_monetary":                         "C",
	"search_path":                         "pg_catalog", // regclass and its like: always with the schema
	"standard_conforming_strings":         "on",
	"client_min_messages":                 "warning", // 18 tells of a missing publication by a warning only
	"row_security":                        "off",     // an error, not fewer rows, when a policy would hide some
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"default_transaction_read_only":       "off", // a read-only session must not create a slot
}

// dial opens a connection, for replication or an ordinary one. The caller owes a Close.
func dial(ctx context.Context, dsn string, replication bool) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("source.dsn is not a connection string that libpq takes (not shown, as it may hold a password)")
	}
	for name, value := range sessionParams {
		cfg.RuntimeParams[name] = value
	}
	delete(cfg.RuntimeParams, "replication")
	if replication {
		cfg.RuntimeParams["replication"] = "database"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4}}
	cfg.DialFunc = dialer.DialContext
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, receiveBuffer), w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err)
	}
	return conn, nil
}

const closeTimeout = 3 * time.Second

// hangUp closes a connection, whatever became of the context that it was used under.
func hangUp(conn *pgconn.PgConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return conn.Close(ctx)
}

// queryRows runs one statement by the simple protocol, the only one that a replication connection has. NULL is nil.
func queryRows(ctx context.Context, conn *pgconn.PgConn, sql string) ([][][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("expected one result, got %d", len(results))
	}
	return results[0].Rows, nil
}

func queryRow(ctx context.Context, conn *pgconn.PgConn, columns int, sql string) ([]string, error) {
	rows, err := queryRows(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) < columns {
		return nil, fmt.Errorf("expected one row of %d columns, got %d rows", columns, len(rows))
	}
	texts := make([]string, columns)
	for i := range texts {
		texts[i] = string(rows[0][i])
	}
	return texts, nil
}

// literal and identifier quote for SQL texts. sessionParams has standard_conforming_strings on.
func literal(s string) string    { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
func identifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// checkSlotName holds to what Postgres allows; so a slot's name needs no quoting beyond that.
func checkSlotName(name string) error {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("slot name %q: use 1 to 63 of lower-case letters, digits and _", name)
	}
	return nil
}

// System is what the source says of itself.
type System struct {
	ID       string // system identifier: another one is another cluster
	Timeline int32
	XLogPos  LSN // where its WAL ends
	Version  int // major version

	database      string
	walLevel      string
	senderTimeout time.Duration // 0: none
}

// Identify asks the source who it is, over a replication connection.
func Identify(ctx context.Context, cfg Config) (System, error) {
	conn, err := dial(ctx, cfg.DSN, true)
	if err != nil {
		return System{}, err
	}
	defer hangUp(conn)
	return identify(ctx, conn)
}

func identify(ctx context.Context, conn *pgconn.PgConn) (System, error) {
	var sys System
	row, err := queryRow(ctx, conn, 4, "IDENTIFY_SYSTEM")
	if err != nil {
		return sys, fmt.Errorf("identify the source: %w", err)
	}
	timeline, err := strconv.ParseInt(row[1], 10, 32)
	if err != nil {
		return sys, fmt.Errorf("identify the source: its timeline is no number")
	}
	sys.ID, sys.Timeline, sys.database = row[0], int32(timeline), row[3]
	if sys.XLogPos, err = parseLSN(row[2]); err != nil {
		return sys, fmt.Errorf("identify the source: %w", err)
	}
	row, err = queryRow(ctx, conn, 3, `SELECT current_setting('server_version_num'), current_setting('wal_level'),
		(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout')`)
	if err != nil {
		return sys, fmt.Errorf("ask the source for its settings: %w", err)
	}
	version, err1 := strconv.Atoi(row[0])
	milliseconds, err2 := strconv.Atoi(row[2])
	if err := errors.Join(err1, err2); err != nil {
		return sys, fmt.Errorf("ask the source for its settings: %w", err)
	}
	sys.Version, sys.walLevel, sys.senderTimeout = version/10000, row[1], time.Duration(milliseconds)*time.Millisecond
	return sys, nil
}

// usable says what of the server is in our way.
func (sys System) usable() error {
	if sys.Version < oldestServer {
		return newFault(ErrServerTooOld, nil, "the source is Postgres %d: logical messages, which carry the user, need %d or later", sys.Version, oldestServer)
	}
	if sys.walLevel != "logical" {
		return newFault(ErrWALLevel, nil, "the source has wal_level = %s, which leaves no row changes in the WAL: "+
			"ALTER SYSTEM SET wal_level = 'logical' and restart it", sys.walLevel)
	}
	return nil
}

// parseLSN takes NULL and the empty text as 0. It is stricter than pglogrepl's, which takes trailing rubbish.
func parseLSN(s string) (LSN, error) {
	if s == "" {
		return 0, nil
	}
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is not a WAL position", s)
	}
	return LSN(h<<32 | l), nil
}

// checkPublication asks the catalog as it is now. Whether it was there at the point of the WAL that is decoded, only the
// stream tells.
func checkPublication(ctx context.Context, conn *pgconn.PgConn, name string) error {
	rows, err := queryRows(ctx, conn, "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = "+literal(name))
	if err != nil {
		return fmt.Errorf("look for publication %q: %w", name, err)
	}
	if len(rows) == 0 {
		return publicationMissing(name, nil)
	}
	return nil
}
