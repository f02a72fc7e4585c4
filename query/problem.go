package query

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// problem is an answer that is an error: application/problem+json, RFC 9457.
type problem struct {
	Type   string           `json:"type"`
	Title  string           `json:"title"`
	Status int              `json:"status"`
	Detail string           `json:"detail,omitempty"`
	Errors []parameterError `json:"errors,omitempty"`
}

// parameterError says what is wrong with one parameter.
type parameterError struct {
	Parameter string `json:"parameter"`
	Message   string `json:"message"`
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

func newProblem(status int, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func wrongParameters(errs []parameterError) *problem {
	p := newProblem(http.StatusBadRequest, "a parameter is wrong; nothing was looked up")
	p.Errors = errs
	return p
}

func (p *problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="casebook-audit"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone; nobody is left to tell
}
