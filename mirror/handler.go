// Package mirror hands the tree of a log out to whoever keeps a copy of it, as https://c2sp.org/tlog-tiles says: over HTTP, and
// as a folder that stock tools read. The leaves are blind: a mirror learns how many entries there are, of which kind and
// when they were recorded, and nothing else. Nothing is handed out that is not under the last signed checkpoint.
package mirror

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// tileTimeout bounds a request, the wait for a connection included.
const tileTimeout = 10 * time.Second

// maxAtOnce is how many requests read at the same time: nobody has to say who he is, so nobody may take all connections.
const maxAtOnce = 2

// handler serves one chain. It keeps no state of a request.
type handler struct {
	pool  *pgxpool.Pool
	chain string
	log   *zap.Logger
	place chan struct{}
}

// Handler serves /checkpoint and /tile/ to everybody, with the reader's pool.
func Handler(pool *pgxpool.Pool, chain string, log *zap.Logger) http.Handler {
	h := &handler{pool: pool, chain: chain, log: log, place: make(chan struct{}, maxAtOnce)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", h.serve(h.checkpoint))
	mux.HandleFunc("GET /tile/", h.serve(h.tile))
	return mux
}

// errNotFound is answered by 404.
var errNotFound = errors.New("there is no such tile under the last checkpoint")

func (h *handler) serve(read func(ctx context.Context, q stored.Querier, chain stored.Chain, w http.ResponseWriter, r *http.Request) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		ctx, cancel := context.WithTimeout(r.Context(), tileTimeout)
		defer cancel()
		data, err := h.read(ctx, w, r, read)
		switch {
		case err == nil:
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data) // the client is gone; it asks again
			return
		case errors.Is(err, errNotFound), errors.Is(err, stored.ErrUnsigned):
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.Is(err, ledger.ErrTiles):
			h.log.Error("the tree cannot be served", zap.String("path", r.URL.Path), zap.Error(err))
			fail(w)
		default:
			h.log.Warn("a tile was not served", zap.Error(err))
			fail(w)
		}
	}
}

func fail(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Retry-After", "5")
	http.Error(w, "the log cannot be read right now", http.StatusServiceUnavailable)
}

func (h *handler) read(ctx context.Context, w http.ResponseWriter, r *http.Request, read func(context.Context, stored.Querier, stored.Chain, http.ResponseWriter, *http.Request) ([]byte, error)) ([]byte, error) {
	select {
	case h.place <- struct{}{}:
		defer func() { <-h.place }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := h.pool.Acquire(ctx)
	if err != nil {
		return nil, errors.New("no connection to the audit database")
	}
	defer conn.Release()
	chain, err := stored.FindChain(ctx, conn, h.chain)
	if err != nil {
		return nil, err
	}
	return read(ctx, conn, chain, w, r)
}

func (h *handler) checkpoint(ctx context.Context, q stored.Querier, chain stored.Chain, w http.ResponseWriter, _ *http.Request) ([]byte, error) {
	signed, _, err := stored.LastCheckpoint(ctx, q, chain)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	return signed, err
}

func (h *handler) tile(ctx context.Context, q stored.Querier, chain stored.Chain, w http.ResponseWriter, r *http.Request) ([]byte, error) {
	id, err := ledger.ParseTilePath(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil {
		return nil, errNotFound
	}
	_, last, err := stored.LastCheckpoint(ctx, q, chain)
	if err != nil {
		return nil, err
	}
	if !id.In(last.Size) {
		return nil, errNotFound
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	return stored.TileData(ctx, q, chain, id)
}
