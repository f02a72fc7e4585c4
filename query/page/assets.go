package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strings"

	"casebook.example/audit/query"
)

//go:embed assets/page.css assets/page.js assets/icon.svg
var assetFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

// asset is a file that never changes under its address: the address holds its hash.
type asset struct {
	body        []byte
	contentType string
}

func loadAssets() map[string]asset {
	list := map[string]asset{}
	for name, contentType := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		body, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is in the binary
		}
		sum := sha256.Sum256(body)
		stem, ext, _ := strings.Cut(name, ".")
		list[stem+"-"+hex.EncodeToString(sum[:6])+"."+ext] = asset{body, contentType}
	}
	return list
}

// assetPath is the address of a file of the assets folder.
func (h *handler) assetPath(name string) string {
	stem, ext, _ := strings.Cut(name, ".")
	for address := range h.assets {
		if strings.HasPrefix(address, stem+"-") && strings.HasSuffix(address, "."+ext) {
			return "/assets/" + address
		}
	}
	panic("page: no asset " + name)
}

func (h *handler) asset(w http.ResponseWriter, r *query.Request) error {
	a, ok := h.assets[r.PathValue("name")]
	if !ok {
		return query.NewProblem(http.StatusNotFound, "There is no such file.")
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, err := w.Write(a.body)
	return err
}

func (h *handler) parse() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"asset": h.assetPath, "visible": visible, "plain": plain, "sentence": sentence,
	}).ParseFS(templateFiles, "templates/*.html"))
}
