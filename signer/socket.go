package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	maxRequest    = 64 << 10
	socketTimeout = 45 * time.Second // longer than an agent may take
	contentSize   = "text/x.tlog.size"
)

// Listen makes the socket for Serve: only its owner and its group may connect. A socket that a dead signer left is
// replaced, one that somebody listens on is not.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("socket %s: another signer listens on it", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("socket %s: there is a file of that name, which is left alone", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
	}
	old := syscall.Umask(0o117)
	listener, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return listener, nil
}

// Serve answers on listener until ctx is done.
func Serve(ctx context.Context, listener net.Listener, s *Signer, log *zap.Logger) error {
	server := &http.Server{Handler: handler(s, log), ReadTimeout: 10 * time.Second, WriteTimeout: socketTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func handler(s *Signer, log *zap.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		signed, err := s.Last(r.Context())
		answer(w, signed, err)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		keys, err := s.Keys(r.Context())
		answer(w, []byte(strings.Join(keys, "\n")+"\n"), err)
	})
	mux.HandleFunc("POST /sign-checkpoint", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			http.Error(w, "the request is too long or was cut off", http.StatusBadRequest)
			return
		}
		request, err := ParseRequest(string(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		signed, err := s.Sign(r.Context(), request)
		switch {
		case err == nil:
			log.Debug("signed", zap.Uint64("size", request.Checkpoint.Size))
		case errors.Is(err, ErrRefused), errors.Is(err, ErrOrigin):
			log.Error("refused", zap.Uint64("size", request.Checkpoint.Size), zap.Error(err))
		default:
			log.Warn("not signed", zap.Uint64("size", request.Checkpoint.Size), zap.Error(err))
		}
		answer(w, signed, err)
	})
	return mux
}

func answer(w http.ResponseWriter, signed []byte, err error) {
	var stale *StaleError
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(signed) // the client is gone; it asks again
	case errors.As(err, &stale):
		w.Header().Set("Content-Type", contentSize)
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", stale.Size)
	case errors.Is(err, ErrOrigin):
		http.Error(w, err.Error(), http.StatusForbidden)
	case errors.Is(err, ErrRefused):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Client asks a signer on a socket. It has Signer's methods.
type Client struct {
	http *http.Client
	path string
}

// NewClient asks the signer on the socket at path. It connects when it is asked.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{
		Timeout: socketTimeout,
		Transport: &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}},
	}}
}

// Close lets the connection go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Last gives the last checkpoint that the signer signed.
func (c *Client) Last(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/checkpoint", "")
}

// Keys are the verifier keys of all keys that sign.
func (c *Client) Keys(ctx context.Context) ([]string, error) {
	text, err := c.do(ctx, http.MethodGet, "/keys", "")
	return strings.Fields(string(text)), err
}

// Sign asks for a signature.
func (c *Client) Sign(ctx context.Context, r Request) ([]byte, error) {
	return c.do(ctx, http.MethodPost, "/sign-checkpoint", r.Format())
}

func (c *Client) do(ctx context.Context, method, path, body string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://signer"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("signer on %s: %w", c.path, errors.Unwrap(err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxRequest))
	if err != nil {
		return nil, fmt.Errorf("signer on %s: %w", c.path, err)
	}
	said := strings.TrimSpace(string(text))
	switch response.StatusCode {
	case http.StatusOK:
		return text, nil
	case http.StatusConflict:
		size, err := strconv.ParseUint(said, 10, 63)
		if err != nil {
			return nil, fmt.Errorf("signer on %s: an answer that is not one", c.path)
		}
		return nil, &StaleError{size}
	case http.StatusForbidden:
		return nil, fmt.Errorf("%w (%s)", ErrOrigin, said)
	case http.StatusUnprocessableEntity:
		return nil, fmt.Errorf("%w (%s)", ErrRefused, strings.TrimPrefix(said, ErrRefused.Error()+": "))
	}
	return nil, fmt.Errorf("signer on %s: %s", c.path, said)
}
