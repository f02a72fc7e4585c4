package anchor

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Syslog sends each checkpoint to a syslog server, as https://www.rfc-editor.org/rfc/rfc5424 says. Nobody acknowledges what arrives: it
// is for finding checkpoints in the collection of logs, and does not count as anchored.
type Syslog struct {
	scheme, address, host string
	tls                   *tls.Config
}

// NewSyslog takes udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT.
func NewSyslog(address string) (*Syslog, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.Scheme != "udp" && u.Scheme != "tcp" && u.Scheme != "tls" {
		return nil, errors.New("this is not an address such as tls://siem.example:6514")
	}
	s := &Syslog{scheme: u.Scheme, address: u.Host, host: "-", tls: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}
	if name, err := os.Hostname(); err == nil && name != "" && len(name) <= 255 && !strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' }) {
		s.host = name
	}
	return s, nil
}

// message is one syslog message: facility 13 (log audit), severity 5 (notice). The number of the structured data is the one that RFC 5424
// keeps for examples, as we have none of our own.
func message(at time.Time, host string, p *Published) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)
	return fmt.Sprintf(`<109>1 %s %s casebook-audit %d checkpoint [checkpoint@32473 origin="%s" size="%d" root="%s"] %s`,
		at.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), host, os.Getpid(), escape.Replace(p.Origin), p.Size, base64.StdEncoding.EncodeToString(p.Root[:]),
		base64.StdEncoding.EncodeToString(p.Signed))
}

// frame counts octets, as https://www.rfc-editor.org/rfc/rfc6587 and rfc5425 say for streams; a datagram is a message by itself.
func frame(scheme, text string) string {
	if scheme == "udp" {
		return text
	}
	return fmt.Sprintf("%d %s", len(text), text)
}

// Publish sends one message on a connection of its own.
func (s *Syslog) Publish(ctx context.Context, p *Published) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network := "tcp"
	if s.scheme == "udp" {
		network = "udp"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, s.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if s.scheme == "tls" {
		secure := tls.Client(conn, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return "", err
		}
		conn = secure
	}
	if _, err := conn.Write([]byte(frame(s.scheme, message(time.Now(), s.host, p)))); err != nil {
		return "", err
	}
	return "sent, not acknowledged", conn.Close()
}
