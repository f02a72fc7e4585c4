package removal

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"casebook.example/audit/ledger"
)

// Done is what was removed.
type Done struct {
	Seq          uint64   `json:"done"`
	Order        uint64   `json:"order"`
	Entries      int      `json:"entries"`
	Fields       int      `json:"fields"`
	Also         int      `json:"also_rows"`
	Names        int      `json:"names"`
	Directory    int      `json:"directory_rows"`
	Tables       []string `json:"rewritten"`
	WALUntil     string   `json:"wal_until"`
	BackupsUntil string   `json:"backups_until"`
}

// sealedField is a field as a seal keeps it.
type sealedField struct {
	Index int               `json:"index"`
	Path  string            `json:"path"`
	Type  string            `json:"type"`
	State ledger.FieldState `json:"state"`
	Value string            `json:"value"`
	Salt  string            `json:"salt"`
}

// vacuumPatience is how long older transactions, which may still see what is removed, are waited for.
const vacuumPatience = time.Minute

// CarryOut removes what an order names: in one transaction from the entries and all that is derived from them, then from
// the files of the tables, which are rewritten. Only then does the log say that it is done. Broken off in between it is
// begun again by the same call.
func (d *Desk) CarryOut(ctx context.Context, order uint64) (*Done, error) {
	s, err := d.State(order)
	if err != nil {
		return nil, err
	}
	switch {
	case len(d.cfg.Approvers) == 0:
		return nil, &RefusedError{ledger.ErrNoApprovers.Error()}
	case s.Done:
		return nil, refuse("order %d was carried out already", order)
	case len(s.Approved) < ledger.Approvals:
		return nil, refuse("order %d has %d valid approvals of different keys, it needs %d: casebook-audit redact approve %d --key FILE", order, len(s.Approved), ledger.Approvals, order)
	}
	if err := d.anchored(ctx, s); err != nil {
		return nil, err
	}
	notices := &notices{}
	conn, err := d.connect(ctx, notices)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	done := &Done{Order: order}
	months := map[string]bool{}
	// If we die before this commits nothing has happened; after it, the next call finds it done and goes on.
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for i := range s.Order.Targets {
			t := &s.Order.Targets[i]
			row, err := d.w.Row(ctx, t.Seq)
			if err != nil {
				return err
			}
			if row == nil || row.LeafHash != t.Leaf {
				return fmt.Errorf("entry %d is not the one that order %d names: run `casebook-audit verify`", t.Seq, order)
			}
			if err := d.free(row); err != nil {
				return err
			}
			months[time.UnixMicro(row.Entry.CommittedAt).UTC().Format("2006_01")] = true
			if err := d.remove(ctx, tx, s, t, row, done); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, explain(err)
	}
	for _, month := range slices.Sorted(maps.Keys(months)) {
		done.Tables = append(done.Tables, "audit.entry_"+month, "audit.entry_also_"+month)
	}
	done.Tables = append(done.Tables, "audit.record_name", "audit.user_name", "audit.directory")
	if err := rewrite(ctx, conn, notices, done.Tables); err != nil {
		return nil, fmt.Errorf("the values are out of reach, but their bytes may still be in the tables' files: %w; then run `casebook-audit redact carry-out %d` again", explain(err), order)
	}
	now := time.Now()
	done.WALUntil, done.BackupsUntil = until(d.cfg.WALUntil, now, "wal_kept"), until(d.cfg.BackupsUntil, now, "backups_kept")
	count := func(path string, n int) ledger.Field {
		return ledger.Field{Path: "done." + path, Type: "int8", State: ledger.FieldValue, Value: strconv.Itoa(n)}
	}
	text := func(path, value string) ledger.Field {
		return ledger.Field{Path: "done." + path, Type: "text", State: ledger.FieldValue, Value: value}
	}
	done.Seq, err = d.append(ctx, s.DoneEntry(text("level", s.Order.Level), count("entries", done.Entries), count("fields", done.Fields), count("also_rows", done.Also),
		count("names", done.Names), count("directory_rows", done.Directory), text("rewritten", strings.Join(done.Tables, " ")),
		text("wal_until", done.WALUntil), text("backups_until", done.BackupsUntil)))
	return done, err
}

func until(f func(time.Time) time.Time, now time.Time, key string) string {
	if f == nil {
		return "not known: redaction." + key + " is not set"
	}
	return f(now).UTC().Format(time.RFC3339)
}

// remove takes one target out.
func (d *Desk) remove(ctx context.Context, tx pgx.Tx, s *ledger.OrderState, t *ledger.Target, row *ledger.Row, done *Done) error {
	fields, err := row.Disclose()
	if err != nil {
		return err
	}
	digests := make([][]byte, len(fields))
	var aside []sealedField
	for i := range fields {
		f := &fields[i]
		digest := f.FieldDigest(i)
		digests[i] = digest[:]
		if t.Removes(i) && !f.Withheld {
			aside = append(aside, sealedField{i, f.Path, f.Type, f.State, f.Value, hex.EncodeToString(f.Salt[:])})
		}
	}
	var sealed []byte
	if s.Order.Level == ledger.LevelSeal && len(aside) > 0 {
		if sealed, err = seal(s.Order.Recipient, aside); err != nil {
			return err
		}
	}
	var n, also, names, directory int
	err = tx.QueryRow(ctx, "SELECT fields, also, names, directory FROM audit.remove_ordered($1, $2, $3, $4, $5)", d.chain, int64(s.Seq), int64(t.Seq), digests, sealed).
		Scan(&n, &also, &names, &directory)
	if err != nil {
		return fmt.Errorf("entry %d: %w", t.Seq, err)
	}
	done.Entries++
	done.Fields, done.Also, done.Names, done.Directory = done.Fields+n, done.Also+also, done.Names+names, done.Directory+directory
	return nil
}

func seal(recipient string, fields []sealedField) ([]byte, error) {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, errors.New("the order's recipient is not an age recipient")
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unsealed are the fields that an order has sealed, of one entry.
type Unsealed struct {
	Seq    uint64        `json:"seq"`
	Fields []sealedField `json:"fields"`
}

// Unseal opens what an order has sealed, holds it against the digests in the log, and puts into the log that it was read.
// The values are the caller's alone: the log does not get them back.
func (d *Desk) Unseal(ctx context.Context, order uint64, by string, identity age.Identity) ([]Unsealed, error) {
	s, err := d.State(order)
	if err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, &notices{})
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT seq, data FROM audit.sealed WHERE chain = $1 AND order_seq = $2 ORDER BY seq", d.chain, int64(order))
	if err != nil {
		return nil, explain(err)
	}
	var list []Unsealed
	var seq int64
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &data}, func() error {
		r, err := age.Decrypt(bytes.NewReader(data), identity)
		if err != nil {
			return refuse("the identity does not open the seal of entry %d", seq)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("the seal of entry %d is broken", seq)
		}
		u := Unsealed{Seq: uint64(seq)}
		if err := json.Unmarshal(text, &u.Fields); err != nil {
			return fmt.Errorf("the seal of entry %d is not readable", seq)
		}
		list = append(list, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, refuse("order %d has sealed nothing", order)
	}
	for _, u := range list {
		row, err := d.w.Row(ctx, u.Seq)
		if err != nil {
			return nil, err
		}
		for _, f := range u.Fields {
			salt, err := hex.DecodeString(f.Salt)
			if err != nil || len(salt) != len(ledger.Hash{}) || row == nil || f.Index < 0 || f.Index >= len(row.Kept) {
				return nil, fmt.Errorf("the seal of entry %d is not readable", u.Seq)
			}
			shown := ledger.Disclosed{Field: ledger.Field{Path: f.Path, Type: f.Type, State: f.State, Value: f.Value}, Salt: ledger.Hash(salt)}
			if shown.FieldDigest(f.Index) != row.Kept[f.Index].Hash {
				return nil, fmt.Errorf("the seal of entry %d does not hold what the log had: field %d is another one", u.Seq, f.Index)
			}
		}
	}
	_, err = d.append(ctx, s.UnsealEntry(by))
	return list, err
}

// notices are what the server said beside its answers.
type notices struct {
	denied string // a warning: something was not done
	dead   int    // row versions that an older transaction may still see
}

var leadingNumber = regexp.MustCompile(`^[0-9]+`)

func (n *notices) take(_ *pgconn.PgConn, notice *pgconn.Notice) {
	switch notice.SeverityUnlocalized {
	case "WARNING":
		n.denied = notice.Message
	case "INFO":
		// VACUUM VERBOSE: its detail begins with how many dead row versions cannot be removed yet.
		if count, err := strconv.Atoi(leadingNumber.FindString(notice.Detail)); err == nil {
			n.dead += count
		}
	}
}

func (d *Desk) connect(ctx context.Context, n *notices) (*pgx.Conn, error) {
	if d.cfg.DSN == "" {
		return nil, &RefusedError{errNoDSN.Error()}
	}
	cfg, err := pgx.ParseConfig(d.cfg.DSN)
	if err != nil {
		return nil, &RefusedError{"redaction.dsn is not a connection string that libpq takes"}
	}
	cfg.OnNotice = n.take
	for name, value := range map[string]string{"search_path": "pg_catalog, pg_temp", "timezone": "UTC", "client_encoding": "UTF8", "application_name": "casebook-audit", "lock_timeout": "60s"} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("redaction.dsn: cannot connect: %w", errors.Unwrap(err))
	}
	return conn, nil
}

// rewrite has tables written anew without what was removed. A plain VACUUM would leave the bytes of dead rows in the free
// space of their pages; statistics hold samples of values, so they are made anew and rewritten too.
func rewrite(ctx context.Context, conn *pgx.Conn, n *notices, tables []string) error {
	analyzed := append([]string{"audit.entry", "audit.entry_also"}, tables...)
	end := time.Now().Add(vacuumPatience)
	for _, statement := range append(prefix("VACUUM (FULL, VERBOSE) ", tables), append(prefix("ANALYZE ", analyzed), "VACUUM (FULL, VERBOSE) pg_catalog.pg_statistic")...) {
		for {
			n.dead, n.denied = 0, ""
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
			if n.denied != "" {
				return fmt.Errorf("%s: let redaction.dsn name a role that may vacuum these tables: the owner of the database, or from Postgres 17 on a member of pg_maintain", n.denied)
			}
			if n.dead == 0 {
				break
			}
			if time.Now().After(end) {
				return errors.New("a transaction that began before the removal is still open, or a replication slot or a standby holds old rows: end it")
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
	return nil
}

func prefix(with string, list []string) (out []string) {
	for _, s := range list {
		out = append(out, with+s)
	}
	return out
}

// explain keeps a server's message and leaves out its detail, which may hold a row.
func explain(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	if pgErr.Code == "42501" {
		return fmt.Errorf("%s (SQLSTATE %s): redaction.dsn must be a member of casebook_audit_redactor", pgErr.Message, pgErr.Code)
	}
	return fmt.Errorf("%s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
}
