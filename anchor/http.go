package anchor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// HTTP posts each checkpoint as it was signed to an address. An answer of the class 2xx is a receipt, with the first bytes of its body.
type HTTP struct {
	address string
	headers http.Header
	client  *http.Client
}

// NewHTTP wants https, or http to this machine. headers are lines "Name: value".
func NewHTTP(address, headers string) (*HTTP, error) {
	if err := checkAddress(address); err != nil {
		return nil, err
	}
	h := &HTTP{address: address, headers: http.Header{}, client: newClient()}
	for text := range strings.Lines(headers) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("the file of headers has a line that is not Name: value") // it holds secrets: nothing of it is shown
		}
		h.headers.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "":
		return errors.New("this is not an address such as https://anchor.example/checkpoints")
	case u.User != nil:
		return errors.New("no password in an address: put it into a header")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	}
	return errors.New("only https, or http to this machine")
}

// newClient follows no redirect: what was configured gets the checkpoint, and its secrets, and nobody else.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a body and reads the beginning of the answer.
func post(ctx context.Context, client *http.Client, address string, headers http.Header, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = headers.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, err
}

// Publish posts the note.
func (h *HTTP) Publish(ctx context.Context, p *Published) (string, error) {
	status, answer, err := post(ctx, h.client, h.address, h.headers, p.Signed)
	if err != nil {
		return "", err
	}
	if status < 200 || status > 299 {
		return "", fmt.Errorf("the answer is %d", status)
	}
	return fmt.Sprintf("%d %s", status, printable(answer)), nil
}

// printable is an answer as it may stand in an entry.
func printable(answer []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(answer), " "))
}
