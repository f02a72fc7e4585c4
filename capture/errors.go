package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// What stops capture until somebody acts. Ask with errors.Is; the error's own text says what, why and the way out.
var (
	ErrSlotMissing        = errors.New("replication slot missing")
	ErrSlotExists         = errors.New("replication slot already there")
	ErrSlotInUse          = errors.New("replication slot in use")
	ErrSlotLost           = errors.New("replication slot lost")
	ErrSlotForeign        = errors.New("replication slot is not ours")
	ErrPublicationMissing = errors.New("publication missing")
	ErrServerTooOld       = errors.New("server too old")
	ErrWALLevel           = errors.New("wal_level is not logical")
	ErrNotReplicationRole = errors.New("not a replication role")
)

// errSilent is a server that does not answer: most likely the connection is half open.
var errSilent = errors.New("the server did not answer in time")

// Retryable says whether err is trouble with the connection or a server that is coming or going: close everything and
// open it again from the stored position. Everything else stops, since it would happen again.
//
// ErrSlotInUse is not retryable as such. After a lost connection, though, the server may hold the slot for us until its
// wal_sender_timeout has passed: a caller that has streamed before may wait for that.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return retryableState(pgErr.Code) && !isFault(err)
	}
	if isFault(err) || errors.Is(err, context.Canceled) {
		return false
	}
	// Not net.Error: every syscall.Errno is one, a full disk too.
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Op != "remote error" && op.Op != "local error" // TLS: certificates will not change by trying again
	}
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.Is(err, errSilent) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// retryableState: connection exceptions, too many connections, out of memory or of disk, and an operator who stops or
// starts the server or ends our session.
func retryableState(code string) bool {
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P")
}

// fault is an error of the list above with a text for the operator. cause may be nil.
type fault struct {
	kind  error
	text  string
	cause error
}

func (f *fault) Error() string   { return f.text }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

func isFault(err error) bool {
	var f *fault
	return errors.As(err, &f) && f.kind != nil
}

func newFault(kind, cause error, format string, args ...any) error {
	return &fault{kind: kind, cause: cause, text: fmt.Sprintf(format, args...)}
}

// connectError words a failed connection. pgx's own text names the user, so does the server's about passwords: ours
// does not.
func connectError(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		text := err.Error()
		if c := (*pgconn.ConnectError)(nil); errors.As(err, &c) {
			text = strings.ReplaceAll(errors.Unwrap(c).Error(), "\n", "; ")
		}
		return &fault{text: "connect to the source: " + text, cause: err}
	}
	switch {
	case pgErr.Code == "42501":
		return newFault(ErrNotReplicationRole, err, "connect to the source: its role may not replicate (SQLSTATE %s): "+
			"ALTER ROLE ... REPLICATION, or name the role that setup made", pgErr.Code)
	case strings.HasPrefix(pgErr.Code, "28"):
		return &fault{cause: err, text: fmt.Sprintf("connect to the source: the server does not let us in (SQLSTATE %s): "+
			"check role and password in source.dsn, and that pg_hba.conf has a line for them", pgErr.Code)}
	case pgErr.Code == "3D000":
		return &fault{cause: err, text: "connect to the source: it has no database of the name in source.dsn (SQLSTATE 3D000)"}
	}
	return &fault{cause: err, text: fmt.Sprintf("connect to the source: %s (SQLSTATE %s)", pgErr.Message, pgErr.Code)}
}

func slotMissing(slot string, cause error) error {
	return newFault(ErrSlotMissing, cause, "slot %q does not exist in the source: whatever was committed since it went "+
		"is not in its stream; a new slot starts with a gap entry in the log", slot)
}

func slotInUse(slot string, pid int32, cause error) error {
	by := "another process"
	if pid != 0 {
		by = fmt.Sprintf("the server process %d", pid)
	}
	return newFault(ErrSlotInUse, cause, "slot %q is in use by %s: stop the other consumer (SELECT pid, application_name, "+
		"client_addr FROM pg_stat_replication), or give each daemon a slot of its own", slot, by)
}

func slotLost(slot string, cause error) error {
	return newFault(ErrSlotLost, cause, "slot %q is lost: the server removed WAL that it still needed (max_slot_wal_keep_size, "+
		"idle_replication_slot_timeout or a change of wal_level); drop it and let a new one be made, which leaves a gap entry in the log", slot)
}

func publicationMissing(publication string, cause error) error {
	return newFault(ErrPublicationMissing, cause, "publication %q does not exist, or did not exist yet at this point of the WAL: "+
		"make it with setup source; it must be there before the slot, so a slot that is older must be dropped and made again", publication)
}

// startError words a refused START_REPLICATION, by SQLSTATE: the texts differ by version and language.
func startError(ctx context.Context, cfg Config, err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42704":
			return slotMissing(cfg.Slot, err)
		case "55006":
			return slotInUse(cfg.Slot, activePID(ctx, cfg), err) // somebody was faster than our look at it
		case "55000":
			return slotLost(cfg.Slot, err)
		}
	}
	return fmt.Errorf("start replication from slot %q: %w", cfg.Slot, err)
}

// streamError words an error that the server sent in the middle of the stream.
func streamError(cfg Config, pgErr *pgconn.PgError) error {
	named := strings.Contains(pgErr.Message, `"`+cfg.Publication+`"`)
	if pgErr.Code == "42704" && (named || pgErr.Routine == "get_publication_oid") { // up to 17; 18 only warns, see notice
		return publicationMissing(cfg.Publication, pgErr)
	}
	return fmt.Errorf("stream from slot %q: the server ended it: %w", cfg.Slot, pgErr)
}
