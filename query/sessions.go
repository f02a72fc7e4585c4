package query

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	sessionIdle   = 30 * time.Minute // without a request
	sessionLength = 8 * time.Hour    // in any case
	sessionRenew  = time.Minute      // how often a used session gets a new cookie
	sessionCookie = "casebook_audit"
)

// sessions lets browsers in that signed in with a token. A session is a cookie that we signed: HttpOnly, SameSite=Strict,
// Secure except on the machine itself. It says which token it stands for and not the token. The key lives as long as the
// process: a restart ends all sessions, and so does taking the token out of the file. Another way to sign in (OIDC) makes
// the same session.
type sessions struct {
	tokens *Tokens
	key    []byte
	now    func() time.Time

	mu    sync.Mutex
	ended map[string]time.Time // ids that signed out, until they would have ended by themselves
}

// session is what the cookie holds. Times are seconds since 1970.
type session struct {
	ID    string `json:"i"`
	Token []byte `json:"t"` // keyed hash of the token's
	Began int64  `json:"b"`
	Used  int64  `json:"u"`
}

func newSessions(tokens *Tokens) *sessions {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails: crypto/rand ends the program instead
	return &sessions{tokens: tokens, key: key, now: time.Now, ended: map[string]time.Time{}}
}

// SignIn begins a session for whoever has a token; nil: nobody has it.
func (h *Service) SignIn(w http.ResponseWriter, r *http.Request, token string) *Caller {
	t := h.Tokens.find(token)
	if t == nil {
		return nil
	}
	now := h.sessions.now().Unix()
	h.sessions.write(w, r, session{ID: rand.Text(), Token: h.sessions.mac("token", t.sum[:]), Began: now, Used: now})
	return &t.caller
}

// SignOut ends the session of a request, here and in the browser.
func (h *Service) SignOut(w http.ResponseWriter, r *http.Request) {
	if s, _ := h.sessions.read(r); s != nil {
		h.sessions.end(s)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Path: "/", MaxAge: -1, HttpOnly: true, Secure: !onThisMachine(r), SameSite: http.SameSiteStrictMode})
}

// caller finds whose session a request belongs to, and keeps a used session alive.
func (s *sessions) caller(w http.ResponseWriter, r *http.Request) *Caller {
	found, caller := s.read(r)
	if caller != nil && s.now().Unix()-found.Used >= int64(sessionRenew/time.Second) {
		found.Used = s.now().Unix()
		s.write(w, r, *found)
	}
	return caller
}

func (s *sessions) read(r *http.Request) (*session, *Caller) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return nil, nil
	}
	payload, signature, _ := strings.Cut(cookie.Value, ".")
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !hmac.Equal(given, s.mac("session", []byte(payload))) {
		return nil, nil
	}
	var found session
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return nil, nil
	}
	now := s.now()
	if now.Sub(time.Unix(found.Used, 0)) >= sessionIdle || now.Sub(time.Unix(found.Began, 0)) >= sessionLength {
		return nil, nil
	}
	s.mu.Lock()
	_, ended := s.ended[found.ID]
	s.mu.Unlock()
	if ended || s.tokens == nil {
		return nil, nil
	}
	for i := range s.tokens.list {
		if t := &s.tokens.list[i]; hmac.Equal(found.Token, s.mac("token", t.sum[:])) {
			return &found, &t.caller
		}
	}
	return nil, nil
}

func (s *sessions) write(w http.ResponseWriter, r *http.Request, of session) {
	text, _ := json.Marshal(of) // strings and numbers
	payload := base64.RawURLEncoding.EncodeToString(text)
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: payload + "." + base64.RawURLEncoding.EncodeToString(s.mac("session", []byte(payload))),
		Path: "/", HttpOnly: true, Secure: !onThisMachine(r), SameSite: http.SameSiteStrictMode,
	})
}

func (s *sessions) end(of *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for id, until := range s.ended {
		if now.After(until) {
			delete(s.ended, id)
		}
	}
	s.ended[of.ID] = time.Unix(of.Began, 0).Add(sessionLength)
}

// mac signs a text for one purpose.
func (s *sessions) mac(purpose string, text []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(purpose + "\x00"))
	h.Write(text)
	return h.Sum(nil)
}

// cookieName has the prefix with which browsers keep subdomains from setting it, wherever the cookie is Secure.
func cookieName(r *http.Request) string {
	if onThisMachine(r) {
		return sessionCookie
	}
	return "__Host-" + sessionCookie
}

// onThisMachine says that the browser asked for this machine itself: then there may be no TLS, and a Secure cookie would
// be thrown away by some browsers.
func onThisMachine(r *http.Request) bool {
	if r.TLS != nil {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
