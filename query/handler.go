package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
)

// Config is what the handler works with.
type Config struct {
	Pool   *pgxpool.Pool // as a member of casebook_audit_reader
	Chain  string
	Tokens *Tokens // nil: nobody is let in

	// OnAccess is told of every request for entries before it is answered, refused ones included. Its error refuses the
	// request. nil: accesses are not recorded.
	OnAccess func(ctx context.Context, a Access) error

	// Rate is how many requests a second one caller may send in the long run; 0: 20.
	Rate float64

	Log *zap.Logger
	Reg prometheus.Registerer
}

// Access is one request for entries.
type Access struct {
	Endpoint string // entries, entry, proof, export
	Caller   string // name of the token; "" when refused for want of one
	Tenants  []string
	Query    string // the parameters as they came, cut to 2,000 bytes; always text that Postgres stores
	Refused  string // why; "" when it was answered
}

const (
	queryTimeout  = 15 * time.Second // of a page
	acquireWait   = 5 * time.Second  // for a connection of the pool
	exportStall   = 60 * time.Second // how long a client of an export may take nothing
	maxAccessText = 2000
)

// Service answers for one chain: to scripts by Handler, to the page by its methods. Both read by the same statements, let
// the same callers in and record the same accesses. It keeps no state of a request.
type Service struct {
	Config
	seconds  *prometheus.HistogramVec
	exports  chan struct{} // one place for each export that runs: they never hold more than half of the pool
	sessions *sessions
	limits   *limits
	waiting  chan struct{} // one place for each request that waits for entries
}

// Request is one request of a known caller.
type Request struct {
	*http.Request
	Caller *Caller
	name   string // of the endpoint
}

// New makes the service of a chain. The caller of New owns the pool.
func New(cfg Config) *Service {
	return &Service{
		Config: cfg,
		seconds: promauto.With(cfg.Reg).NewHistogramVec(prometheus.HistogramOpts{
			Name: "query_seconds", Help: "Time to answer a request.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}, []string{"endpoint", "code"}),
		exports:  make(chan struct{}, max(1, cfg.Pool.Config().MaxConns/2)),
		sessions: newSessions(cfg.Tokens),
		limits:   newLimits(cfg.Rate),
		waiting:  make(chan struct{}, maxWaiting),
	}
}

// Handler serves the endpoints of version 1, below /v1/. All of them want a token or a session.
func (h *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range []struct {
		pattern, name string
		logged        bool // an access to entries
		serve         func(w http.ResponseWriter, r *Request) error
	}{
		{"/v1/entries", "entries", true, h.entries},
		{"/v1/entries/{seq}", "entry", true, h.entry},
		{"/v1/entries/{seq}/proof", "proof", true, h.proof},
		{"/v1/checkpoint", "checkpoint", false, h.checkpoint},
		{"/v1/export", "export", true, h.export},
		{"/v1/records", "records", false, h.records},
		{"/v1/users", "users", false, h.users},
		{"/v1/applications", "applications", false, h.applications},
		{"/v1/actions", "actions", false, h.actions},
		{"/v1/status", "status", false, h.status},
		{"/v1/summary", "summary", true, h.summary},
	} {
		mux.Handle(e.pattern, h.Endpoint(Endpoint{Name: e.name, Logged: e.logged, Serve: e.serve}))
	}
	mux.Handle("/v1/openapi.json", h.Endpoint(Endpoint{Name: "openapi", Open: true, Serve: openapi}))
	mux.Handle("/", h.Endpoint(Endpoint{Name: "other", Serve: func(http.ResponseWriter, *Request) error {
		return NewProblem(http.StatusNotFound, "there is no such endpoint")
	}}))
	return mux
}

// Endpoint is one address that the service answers at.
type Endpoint struct {
	Name   string                                              // label of the metric, and of the access entry
	Logged bool                                                // gives entries: each request is recorded before it is answered
	Free   bool                                                // costs nothing, and is not counted against a limit
	Open   bool                                                // wants no caller: Request.Caller may be nil
	Method string                                              // besides GET and HEAD
	Serve  func(w http.ResponseWriter, r *Request) error       // its error is answered by Refuse
	Refuse func(w http.ResponseWriter, r *Request, p *Problem) // nil: as application/problem+json
}

// Endpoint gives what all endpoints have in common: who asks, the entry of the access, headers, the metric, and an answer
// whatever happens.
func (h *Service) Endpoint(e Endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		out := &recorder{ResponseWriter: w, status: http.StatusOK}
		for key, value := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			out.Header().Set(key, value)
		}
		req := &Request{Request: r, name: e.Name}
		defer func() { // also when an answer is cut off
			h.seconds.WithLabelValues(e.Name, strconv.Itoa(out.status)).Observe(time.Since(start).Seconds())
		}()
		defer func() {
			// What a panic carries may be a value of the log: it is not printed, only counted by its answer.
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				h.Log.Error("panic while answering", zap.String("endpoint", e.Name), zap.String("type", fmt.Sprintf("%T", p)), zap.Stack("stack"))
				e.answer(out, req, NewProblem(http.StatusInternalServerError, "the request could not be answered"))
			}
		}()
		if err := h.admit(out, req, e); err != nil {
			h.fail(out, req, e, err)
		}
	})
}

// admit lets known callers in and records the access, before anything is read.
func (h *Service) admit(w http.ResponseWriter, r *Request, e Endpoint) error {
	r.Caller = h.caller(w, r.Request)
	if !e.Free {
		if p := h.limits.over(w, r); p != nil {
			return p
		}
	}
	access := Access{Endpoint: e.Name, Query: r.URL.RawQuery}
	var refused *Problem
	switch {
	case r.Caller == nil && !e.Open:
		refused = NewProblem(http.StatusUnauthorized, "send a token that the tokens file knows: Authorization: Bearer ...")
	case r.Method != http.MethodGet && r.Method != http.MethodHead && (e.Method == "" || r.Method != e.Method):
		w.Header().Set("Allow", strings.TrimSuffix("GET, HEAD, "+e.Method, ", "))
		refused = NewProblem(http.StatusMethodNotAllowed, "the log is only read")
	}
	if r.Caller != nil {
		access.Caller, access.Tenants = r.Caller.Name, r.Caller.Tenants
	}
	if refused != nil {
		access.Refused = refused.Title
	}
	if e.Logged {
		if err := h.Record(r.Context(), access); err != nil {
			if refused == nil {
				refused = NewProblem(http.StatusServiceUnavailable, "the access cannot be recorded right now, so it is not answered; try again later")
				w.Header().Set("Retry-After", "10")
			}
		}
	}
	if refused != nil {
		return refused
	}
	return e.Serve(w, r)
}

// Record hands an access to Config.OnAccess. Its error refuses the request.
func (h *Service) Record(ctx context.Context, a Access) error {
	if h.OnAccess == nil {
		return nil
	}
	a.Query = storable(a.Query)
	err := h.OnAccess(ctx, a)
	if err != nil {
		h.Log.Warn("access not recorded, request refused", zap.String("endpoint", a.Endpoint), zap.Error(err))
	}
	return err
}

// caller is who sends a request: by a token, or else by the session of a browser.
func (h *Service) caller(w http.ResponseWriter, r *http.Request) *Caller {
	if r.Header.Get("Authorization") != "" {
		caller, _ := h.Tokens.caller(r)
		return caller
	}
	return h.sessions.caller(w, r)
}

// errBusy: all connections of the pool are taken.
var errBusy = errors.New("no free connection")

// fail answers with a problem. What is not the caller's fault is logged, without any text of the query.
func (h *Service) fail(w *recorder, r *Request, e Endpoint, err error) {
	var p *Problem
	switch {
	case errors.As(err, &p):
	case errors.Is(err, ErrManyRecords):
		p = wrongParameters([]ParameterError{{"record", err.Error()}})
	case errors.Is(err, ErrManyUsers):
		p = wrongParameters([]ParameterError{{"user", err.Error()}})
	case r.Context().Err() != nil: // the client has gone
		w.status = 499
		if w.wrote {
			panic(http.ErrAbortHandler)
		}
		return
	default:
		p = NewProblem(http.StatusInternalServerError, "the log cannot be read right now")
		var pgErr *pgconn.PgError
		switch {
		case errors.Is(err, errBusy):
			p = NewProblem(http.StatusServiceUnavailable, "too many requests are being answered; try again later")
			w.Header().Set("Retry-After", "5")
		case errors.As(err, &pgErr) && pgErr.Code == "57014", errors.Is(err, context.DeadlineExceeded):
			p = NewProblem(http.StatusServiceUnavailable, "the query took too long: narrow the dates or name a record")
		case pgErr == nil:
			p = NewProblem(http.StatusServiceUnavailable, "the audit database does not answer; try again later")
			w.Header().Set("Retry-After", "5")
		}
		h.Log.Warn("request failed", zap.String("endpoint", e.Name), zap.Int("status", p.Status), zap.String("sqlstate", sqlState(err)))
	}
	e.answer(w, r, p)
}

// answer gives a problem, or cuts the connection when an answer has begun: half of one must not look whole.
func (e Endpoint) answer(w *recorder, r *Request, p *Problem) {
	if w.wrote {
		w.status = p.Status // for the metric
		panic(http.ErrAbortHandler)
	}
	w.Header().Del("Content-Disposition")
	w.Header().Del("Trailer")
	if e.Refuse != nil {
		e.Refuse(w, r, p)
		return
	}
	p.write(w)
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// read runs fn in one read-only transaction that sees the caller's tenants and nothing else.
func (h *Service) read(ctx context.Context, caller *Caller, limit time.Duration, fn func(tx pgx.Tx, s scope) error) error {
	wait, cancel := context.WithTimeout(ctx, acquireWait)
	conn, err := h.Pool.Acquire(wait)
	cancel()
	if err != nil {
		if errors.Is(wait.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
			if stat := h.Pool.Stat(); stat.AcquiredConns() >= stat.MaxConns() {
				return errBusy
			}
			return errors.New("no connection in time")
		}
		return err
	}
	defer conn.Release()
	return Read(ctx, conn.Conn(), h.Chain, caller, limit, fn)
}

// Read is the transaction of a request: read-only, one snapshot, bound to tenants by row-level security, and in time.
func Read(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, limit time.Duration, fn func(tx pgx.Tx, s scope) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	var s scope
	err = tx.QueryRow(ctx, `SELECT c.chain FROM audit.chain c,
		(SELECT set_config('casebook_audit.tenants', $2, true), set_config('statement_timeout', $3, true), set_config('timezone', 'UTC', true)) AS x
		WHERE c.name = $1`, chain, strings.Join(caller.Tenants, ","), strconv.FormatInt(limit.Milliseconds(), 10)).Scan(&s.chain)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("the audit database has no chain %q", chain)
	}
	if err != nil {
		return err
	}
	if !caller.All() {
		s.tenants = caller.Tenants
	}
	return fn(tx, s)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	r.status, r.wrote = status, true
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(true)
	return enc.Encode(v)
}

// storable makes text of what a client sent. Bytes that are not UTF-8 pass net/http, and Postgres refuses them: an access
// that cannot be stored would stop the chain, and it takes no token to send one.
func storable(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > maxAccessText {
		s = strings.ToValidUTF8(s[:maxAccessText], "")
	}
	return s
}
