package query

import (
	_ "embed"
	"net/http"
)

// document describes the endpoints, OpenAPI 3.1. The tests hold it against every answer that they get, and its parameters
// against those that the code takes.
//
//go:embed openapi.json
var document []byte

func openapi(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(document)
	return err
}
