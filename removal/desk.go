package removal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
)

// Config says which log, and by whose rules.
type Config struct {
	Sink      sink.Config
	DSN       string   // of a member of casebook_audit_redactor who may VACUUM the tables; only for CarryOut and Unseal
	Approvers []string // verifier keys whose approvals count
	Signed    bool     // the configuration has the log signed
	Recipient string   // age recipient for the level seal

	WALUntil, BackupsUntil func(time.Time) time.Time // until when they may hold what is removed at a time; nil: nobody said
}

// RefusedError says why something is not done. Nothing was changed.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// Desk is an operator's turn at a chain. It belongs to one goroutine.
type Desk struct {
	cfg      Config
	w        *sink.Writer
	chain    int32
	origin   string
	removals *ledger.Removals
}

// Open takes the chain; a running daemon lets it go within a moment. Close gives it back.
func Open(ctx context.Context, cfg Config) (*Desk, error) {
	w, err := sink.OpenTurn(ctx, cfg.Sink, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	d := &Desk{cfg: cfg, w: w}
	d.chain, d.origin = w.Chain()
	if d.removals, err = w.Removals(ctx, cfg.Approvers); err != nil {
		w.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the turn.
func (d *Desk) Close() { d.w.Close() }

// append gives the entry's number.
func (d *Desk) append(ctx context.Context, e *ledger.Entry) (uint64, error) {
	seq := d.w.Position().Size
	return seq, d.w.AppendEvents(ctx, []*ledger.Entry{e})
}

// State is an order and what became of it.
func (d *Desk) State(order uint64) (*ledger.OrderState, error) {
	s := d.removals.Order(order)
	if s == nil {
		return nil, refuse("entry %d is not an order to remove something", order)
	}
	return s, nil
}

// Approve puts an approval by key into the log.
func (d *Desk) Approve(ctx context.Context, order uint64, vkey string, key note.Signer) (seq uint64, err error) {
	s, err := d.State(order)
	if err != nil {
		return 0, err
	}
	id, err := ledger.ApproverID(vkey)
	switch {
	case err != nil:
		return 0, err
	case !slices.Contains(d.cfg.Approvers, vkey):
		return 0, refuse("the key %s is not one of redaction.approvers", vkey)
	case s.Done:
		return 0, refuse("order %d was carried out already", order)
	case slices.Contains(s.Approved, id):
		return 0, refuse("order %d is approved by this key already: another one is needed", order)
	}
	signature, err := ledger.Approve(s.Order, s.Seq, s.Leaf, key)
	if err != nil {
		return 0, err
	}
	if err := ledger.CheckApproval(s.Order, s.Seq, s.Leaf, vkey, signature); err != nil {
		return 0, err
	}
	return d.append(ctx, s.ApprovalEntry(vkey, signature))
}

// Hold puts a record under a legal hold, or releases it.
func (d *Desk) Hold(ctx context.Context, record string, hold bool, reason, by string) (seq uint64, err error) {
	switch {
	case record == "" || reason == "":
		return 0, refuse("a hold names a record and a reason")
	case d.removals.Held(record) == hold && hold:
		return 0, refuse("record %s is under a hold already", record)
	case d.removals.Held(record) == hold:
		return 0, refuse("record %s is under no hold", record)
	}
	e := &ledger.Entry{
		Kind: ledger.KindRedactionOrder, Action: ledger.ActionHold, Summary: "Legal hold", RecordID: record, Initiator: ledger.InitiatorOperator, DBUser: by,
		Fields: []ledger.Field{{Path: "hold.reason", Type: "text", State: ledger.FieldValue, Value: reason}},
	}
	if !hold {
		e.Action, e.Summary = ledger.ActionRelease, "Legal hold released"
	}
	return d.append(ctx, e)
}

// records are the records that list an entry.
func records(e *ledger.Entry) []string {
	ids := []string{e.RecordID}
	for i := range e.Fields {
		if f := &e.Fields[i]; strings.HasPrefix(f.Path, "also.") && f.State == ledger.FieldValue {
			if also, err := parseAlso(f.Value); err == nil {
				ids = append(ids, also.RecordID)
			}
		}
	}
	return ids
}

// free says which hold covers an entry; nil: none does.
func (d *Desk) free(row *ledger.Row) error {
	for _, id := range records(&row.Entry) {
		if id != "" && d.removals.Held(id) {
			return refuse("entry %d belongs to record %s, which is under a legal hold", row.Seq, id)
		}
	}
	return nil
}

// anchored says why an order must wait for a checkpoint; nil: it need not.
func (d *Desk) anchored(ctx context.Context, s *ledger.OrderState) error {
	checkpoints, err := sink.OpenCheckpoints(ctx, d.cfg.Sink)
	if err != nil {
		return err
	}
	defer checkpoints.Close()
	keys, err := checkpoints.Keys(ctx)
	if err != nil || len(keys) == 0 && !d.cfg.Signed {
		return err
	}
	if err := checkpoints.Covers(ctx, s.Last); err != nil {
		return refuse("order %d and its approvals (the last is entry %d) must lie under a signed checkpoint before anything is destroyed, so that nobody can make them up afterwards: %s. Let the daemon run for a moment and try again", s.Seq, s.Last, err)
	}
	return nil
}

var errNoDSN = errors.New("redaction.dsn is not set: it names a member of casebook_audit_redactor who may vacuum the log's tables")
