package query_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"casebook.example/audit/ledger"
)

// described is the document as its validator reads it.
func described(t testing.TB) (*openapi3.T, routers.Router) {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// asDescribed holds an answer against the document: status, headers, type and body.
func asDescribed(router routers.Router, target string, status int, header http.Header, body string) error {
	req := httptest.NewRequest(http.MethodGet, target, nil)
	route, params, err := router.FindRoute(req)
	if err != nil {
		if status == http.StatusNotFound || status == http.StatusUnauthorized {
			return nil // no endpoint of ours
		}
		return err
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	// kin-openapi takes a whole type of contents, with its parameters; the document names the type alone.
	header = header.Clone()
	if kind, _, ok := strings.Cut(header.Get("Content-Type"), ";"); ok {
		header.Set("Content-Type", kind)
	}
	// Files are texts of their own; only their type is described.
	if kind := header.Get("Content-Type"); kind == "text/csv" || kind == "application/x-ndjson" || kind == "application/zip" || kind == "text/plain" {
		options.ExcludeResponseBody = true
	}
	return openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: options},
		Status:                 status, Header: header, Body: io.NopCloser(bytes.NewReader([]byte(body))), Options: options,
	})
}

// TestDocument: the document is one of OpenAPI 3.1, it is served to everybody, and it has the endpoints and the parameters
// that the code has, no more and no fewer.
func TestDocument(t *testing.T) {
	t.Parallel()
	doc, _ := described(t)
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := setup(t)
	b.add(&ledger.Entry{})
	status, header, body := b.get("", "/v1/openapi.json")
	file, _ := os.ReadFile("openapi.json")
	if status != 200 || header.Get("Content-Type") != "application/json" || body != string(file) || doc.OpenAPI != "3.1.0" {
		t.Errorf("the document as it is served: %d", status)
	}
	code, err := os.ReadFile("handler.go")
	if err != nil {
		t.Fatal(err)
	}
	served := []string{}
	for _, m := range regexp.MustCompile(`"(/v1/[^"]*)"`).FindAllStringSubmatch(string(code), -1) {
		served = append(served, m[1])
	}
	paths := []string{}
	for path := range doc.Paths.Map() {
		paths = append(paths, path)
	}
	slices.Sort(served)
	slices.Sort(paths)
	if !slices.Equal(served, paths) {
		t.Errorf("endpoints of the code %v, of the document %v", served, paths)
	}
	for path, item := range doc.Paths.Map() {
		described := []string{}
		for _, p := range item.Get.Parameters {
			if p.Value.In == "query" {
				described = append(described, p.Value.Name)
			}
		}
		_, _, body := b.get("all", strings.ReplaceAll(path, "{seq}", "1")+"?nonsense=1")
		var problem struct {
			Errors []struct{ Parameter, Message string }
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		known := []string{}
		for _, e := range problem.Errors {
			if _, list, ok := strings.Cut(e.Message, "known are "); ok && e.Parameter == "nonsense" {
				known = strings.Split(list, ", ")
			}
		}
		slices.Sort(described)
		slices.Sort(known)
		if !slices.Equal(described, known) {
			t.Errorf("%s takes %v and is described with %v", path, known, described)
		}
		// Values that the document lists are taken, and another one is not.
		for _, p := range item.Get.Parameters {
			if p.Value.In != "query" || p.Value.Schema.Value.Enum == nil {
				continue
			}
			for _, v := range append(slices.Clone(p.Value.Schema.Value.Enum), "nonsense") {
				q := url.Values{p.Value.Name: {v.(string)}}
				if path == "/v1/summary" && p.Value.Name != "by" {
					q.Set("by", "day")
				}
				status, _, body := b.get("all", strings.ReplaceAll(path, "{seq}", "1")+"?"+q.Encode())
				if (status == 400) != (v == "nonsense") {
					t.Errorf("%s?%s: %d %s", path, q.Encode(), status, body)
				}
			}
		}
	}
}
