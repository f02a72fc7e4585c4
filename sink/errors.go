package sink

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What a caller may ask about with errors.Is.
var (
	// ErrHeld: another daemon writes this chain.
	ErrHeld = errors.New("another daemon holds the chain")
	// ErrNotOurs: the database has no audit log, or not the chain that was asked for.
	ErrNotOurs = errors.New("not an audit database of ours")
	// ErrVersion: the audit database is of another version than this program.
	ErrVersion = errors.New("audit database of another version")
	// ErrRights: the role may not do what the writer must do.
	ErrRights = errors.New("the role lacks a right")
	// ErrMoved: the stored position is not the one that this writer left. Somebody else has written the chain.
	ErrMoved = errors.New("the chain was moved by somebody else")
	// ErrUnknown: the commit was sent and no answer came. Only the position, read anew, says what happened.
	ErrUnknown = errors.New("it is not known whether the commit took place")
)

// fault is an error of that list with a text for the operator.
type fault struct {
	kind error
	text string
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.kind }

func newFault(kind error, format string, args ...any) error {
	return &fault{kind, fmt.Sprintf(format, args...)}
}

// explain gives a server's error the way out where there is a usual one. Its detail is left out: it may hold a row.
func explain(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	switch {
	case pgErr.Code == "53100":
		return fmt.Errorf("the audit database's disk is full: free some space, the daemon goes on by itself: %w", err)
	case pgErr.Code == "25006":
		return fmt.Errorf("the audit database is read-only, a standby or in recovery: point audit.dsn at the primary: %w", err)
	case pgErr.Code == "42501":
		return fmt.Errorf("%w: %w: run `casebook-audit setup audit --apply`", ErrRights, err)
	}
	return err
}

// connectFault is a failed connection in our words: pgx's name the user and the database.
type connectFault struct {
	text  string
	cause error
}

func (f *connectFault) Error() string { return f.text }
func (f *connectFault) Unwrap() error { return f.cause }

func connectError(err error) error {
	text := "connect: " + err.Error()
	var connectErr *pgconn.ConnectError
	if errors.As(err, &connectErr) && errors.Unwrap(connectErr) != nil {
		text = "connect: " + strings.ReplaceAll(errors.Unwrap(connectErr).Error(), "\n", "; ")
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch {
		case strings.HasPrefix(pgErr.Code, "28"):
			text = fmt.Sprintf("the server does not let us in (SQLSTATE %s): check role and password in audit.dsn, and that pg_hba.conf has a line for them", pgErr.Code)
		case pgErr.Code == "3D000":
			text = "the server has no database of the name in audit.dsn (SQLSTATE 3D000)"
		default:
			text = fmt.Sprintf("connect: %s (SQLSTATE %s)", pgErr.Message, pgErr.Code)
		}
	}
	return &connectFault{text, err}
}

// Retryable says whether err is trouble that may pass: close the writer and open it again. The position decides what
// took place.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrUnknown) {
		return true
	}
	var f *fault
	if errors.As(err, &f) {
		return f.kind == ErrHeld
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		// Connection trouble, no resources, an operator stops the server, it is a standby for now, serialization.
		return strings.HasPrefix(pgErr.Code, "08") || strings.HasPrefix(pgErr.Code, "53") || strings.HasPrefix(pgErr.Code, "57") ||
			strings.HasPrefix(pgErr.Code, "40") || pgErr.Code == "25006" || pgErr.Code == "55P03"
	}
	var netErr net.Error
	var connectErr *pgconn.ConnectError
	return errors.As(err, &netErr) || errors.As(err, &connectErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.Timeout(err) || strings.Contains(err.Error(), "conn closed")
}
