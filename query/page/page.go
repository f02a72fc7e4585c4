package page

import (
	"bytes"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"casebook.example/audit/query"
)

// Config is what the page works with.
type Config struct {
	Service *query.Service
	Words   func() (applications, resources []string) // that the mapping knows now; the log may know more applications
	Log     *zap.Logger
}

// handler keeps no state of a request.
type handler struct {
	Config
	assets    map[string]asset
	templates *template.Template
}

// policy lets the browser load what this page serves, and nothing else; no inline script or style.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// New serves the page, at every address but those below /v1/.
func New(cfg Config) http.Handler {
	h := &handler{Config: cfg, assets: loadAssets()}
	h.templates = h.parse()
	mux := http.NewServeMux()
	// All are open to anybody: list and entry let callers in by themselves, see admitted.
	for _, e := range []struct {
		pattern string
		query.Endpoint
	}{
		{"/{$}", query.Endpoint{Name: "page", Open: true, Serve: h.list}},
		{"/entries/{seq}", query.Endpoint{Name: "entry", Open: true, Serve: h.entry}},
		{"/sign-in", query.Endpoint{Name: "sign-in", Open: true, Method: http.MethodPost, Serve: h.signIn}},
		{"/sign-out", query.Endpoint{Name: "sign-out", Open: true, Method: http.MethodPost, Serve: h.signOut}},
		{"/assets/{name}", query.Endpoint{Name: "asset", Open: true, Free: true, Serve: h.asset}},
		{"/", query.Endpoint{Name: "other", Open: true, Serve: func(http.ResponseWriter, *query.Request) error {
			return query.NewProblem(http.StatusNotFound, "There is no such page.")
		}}},
	} {
		e.Refuse = h.refuse
		mux.Handle(e.pattern, h.Service.Endpoint(e.Endpoint))
	}
	// Another site may link to us. It may not make a browser send us anything.
	return http.NewCrossOriginProtection().Handler(mux)
}

// base is what every view has.
type base struct {
	Title  string
	Caller string // "": nobody has signed in
	Home   string // the list that the view came from
}

func newBase(r *query.Request, title string) base {
	b := base{Title: title, Home: "/"}
	if r.Caller != nil {
		b.Caller = r.Caller.Name
	}
	return b
}

// render writes a whole page, or nothing: a template that fails in the middle must not look like an answer.
func (h *handler) render(w http.ResponseWriter, status int, name string, view any) error {
	var out bytes.Buffer
	if err := h.templates.ExecuteTemplate(&out, name, view); err != nil {
		// Its text may hold a value of the log.
		h.Log.Error("template failed", zap.String("template", name))
		return query.NewProblem(http.StatusInternalServerError, "The page could not be written.")
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	w.WriteHeader(status)
	_, err := w.Write(out.Bytes())
	return err
}

type problemView struct {
	base
	Problem *query.Problem
}

// refuse answers what cannot be answered, as a page. Who is not known is asked to sign in.
func (h *handler) refuse(w http.ResponseWriter, r *query.Request, p *query.Problem) {
	var err error
	switch {
	case p.Status == http.StatusUnauthorized:
		err = h.askToSignIn(w, r)
	default:
		err = h.render(w, p.Status, "problem", problemView{newBase(r, p.Title), p})
	}
	if err != nil {
		http.Error(w, p.Title, p.Status)
	}
}

// sentence makes a sentence of a problem's detail.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// problemOf is the problem that an error is; nil: it is none.
func problemOf(err error) *query.Problem {
	var p *query.Problem
	if errors.As(err, &p) {
		return p
	}
	return nil
}
