package page

import (
	"net/http"
	"net/url"
	"strings"

	"casebook.example/audit/query"
)

// maxSignIn bounds the body of the form.
const maxSignIn = 8 << 10

type signInView struct {
	base
	Next  string // where to go afterwards: an address of this page
	Wrong bool   // the token that was given is nobody's
	Again bool   // the browser comes from another site and has not shown its cookie yet
}

// askToSignIn answers who is not known. A browser that follows a link from elsewhere does not send a cookie that is
// SameSite=Strict; it does once it asks again from here, so it is made to, once.
func (h *handler) askToSignIn(w http.ResponseWriter, r *query.Request) error {
	view := signInView{base: newBase(r, "Sign in"), Next: r.URL.RequestURI()}
	if view.Again = r.Header.Get("Sec-Fetch-Site") == "cross-site"; view.Again {
		return h.render(w, http.StatusOK, "again", view)
	}
	return h.render(w, http.StatusUnauthorized, "sign-in", view)
}

// signIn shows the form, and takes the token that it sends. Each try is recorded.
func (h *handler) signIn(w http.ResponseWriter, r *query.Request) error {
	view := signInView{base: newBase(r, "Sign in"), Next: here(r.URL.Query().Get("next"))}
	if r.Method != http.MethodPost {
		return h.render(w, http.StatusOK, "sign-in", view)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxSignIn)
	if err := r.ParseForm(); err != nil {
		return query.NewProblem(http.StatusBadRequest, "The form could not be read.")
	}
	view.Next = here(r.PostForm.Get("next"))
	access := query.Access{Endpoint: "sign-in"}
	caller := h.Service.SignIn(w, r.Request, strings.TrimSpace(r.PostForm.Get("token")))
	if caller == nil {
		access.Refused = http.StatusText(http.StatusUnauthorized)
	} else {
		access.Caller, access.Tenants = caller.Name, caller.Tenants
	}
	if err := h.Service.Record(r.Context(), access); err != nil {
		w.Header().Del("Set-Cookie")
		return query.NewProblem(http.StatusServiceUnavailable, "The access cannot be recorded right now, so it is not granted. Try again later.")
	}
	if caller == nil {
		view.Wrong = true
		return h.render(w, http.StatusUnauthorized, "sign-in", view)
	}
	http.Redirect(w, r.Request, view.Next, http.StatusSeeOther)
	return nil
}

func (h *handler) signOut(w http.ResponseWriter, r *query.Request) error {
	if r.Method != http.MethodPost {
		return query.NewProblem(http.StatusMethodNotAllowed, "Use the button to sign out.")
	}
	h.Service.SignOut(w, r.Request)
	http.Redirect(w, r.Request, "/sign-in", http.StatusSeeOther)
	return nil
}

// here is an address on this page; "/" for any other.
func here(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//") ||
		strings.ContainsAny(address, "\\\r\n\t") || strings.HasPrefix(u.Path, "/sign-") || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return u.RequestURI()
}
