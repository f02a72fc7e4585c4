package mapping

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The mapping file as it is written. deploy/reference/mapping.yaml shows every key with an explanation.
type (
	file struct {
		Version      int                   `yaml:"version"`
		Tenant       string                `yaml:"tenant"`
		Context      yaml.MapSlice         `yaml:"context"`
		Users        *fileUsers            `yaml:"users"`
		CustomFields *fileDefinitions      `yaml:"custom_fields"`
		Noise        []string              `yaml:"noise"`
		Authors      *fileAuthors          `yaml:"authors"`
		RecordTypes  map[string]string     `yaml:"record_types"`
		Tables       map[string]*fileTable `yaml:"tables"`
	}
	fileUsers struct {
		Table      string            `yaml:"table"`
		ID         string            `yaml:"id"`
		Email      string            `yaml:"email"`
		Name       string            `yaml:"name"`
		Kind       string            `yaml:"kind"`
		Initiators map[string]string `yaml:"initiators"`
	}
	fileAuthors struct {
		Create string `yaml:"create"`
		Update string `yaml:"update"`
	}
	fileDefinitions struct {
		Table      string `yaml:"table"`
		Tenant     string `yaml:"tenant"`
		RecordType string `yaml:"record_type"`
		Key        string `yaml:"key"`
		Label      string `yaml:"label"`
		Sensitive  string `yaml:"sensitive"`
	}
	fileTable struct {
		Fate          Fate                `yaml:"fate"`
		Reason        string              `yaml:"reason"`
		Key           []string            `yaml:"key"`
		Record        *fileRecord         `yaml:"record"`
		Resource      string              `yaml:"resource"`
		Section       string              `yaml:"section"`
		Name          string              `yaml:"name"`
		Called        string              `yaml:"called"`
		Tenant        string              `yaml:"tenant"`
		Owner         []fileOwner         `yaml:"owner"`
		OwnerOptional bool                `yaml:"owner_optional"`
		Also          []fileOwner         `yaml:"also"`
		References    map[string]*fileRef `yaml:"references"`
		Masked        []string            `yaml:"masked"`
		Never         []string            `yaml:"never"`
		Restricted    []string            `yaml:"restricted"`
		Noise         []string            `yaml:"noise"`
		Enums         []string            `yaml:"enums"`
		Money         []string            `yaml:"money"`
		Hashed        []string            `yaml:"hashed"`
		Labels        map[string]string   `yaml:"labels"`
		SoftDelete    []fileSoft          `yaml:"soft_delete"`
		CustomFields  *fileCustom         `yaml:"custom_fields"`
		Words         *fileWords          `yaml:"words"`
		System        []fileSystem        `yaml:"system"`
	}
	fileRecord struct {
		Application string `yaml:"application"`
		Type        string `yaml:"type"`
	}
	fileOwner struct {
		Column string            `yaml:"column"`
		Table  string            `yaml:"table"`
		From   string            `yaml:"from"`
		By     string            `yaml:"by"`
		Type   string            `yaml:"type"`
		ID     string            `yaml:"id"`
		Tables map[string]string `yaml:"tables"`
	}
	fileRef struct {
		Label string `yaml:"label"`
		Table string `yaml:"table"`
	}
	fileSoft struct {
		Column        string   `yaml:"column"`
		By            string   `yaml:"by"`
		Value         string   `yaml:"value"`
		UnlessChanged []string `yaml:"unless_changed"`
	}
	fileCustom struct {
		Column     string `yaml:"column"`
		RecordType string `yaml:"record_type"`
	}
	fileWords struct {
		Create     string        `yaml:"create"`
		CreateWhen yaml.MapSlice `yaml:"create_when"`
		Update     string        `yaml:"update"`
		UpdateOf   yaml.MapSlice `yaml:"update_of"`
		Delete     string        `yaml:"delete"`
		SoftDelete string        `yaml:"soft_delete"`
		Restore    string        `yaml:"restore"`
	}
	fileSystem struct {
		On     []string `yaml:"on"`
		NoUser bool     `yaml:"no_user"`
		Only   []string `yaml:"only"`
		Column string   `yaml:"column"`
		Value  string   `yaml:"value"`
		IsNull bool     `yaml:"is_null"`
		Via    string   `yaml:"via"`
	}
)

// FileError is a fault of the mapping file, with the place.
type FileError struct {
	File         string
	Line, Column int // 0: the file as a whole
	Message      string
	Excerpt      string
}

func (e *FileError) Error() string {
	switch {
	case e.Line == 0:
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	case e.Excerpt == "":
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	default:
		return fmt.Sprintf("%s:%d:%d: %s\n%s", e.File, e.Line, e.Column, e.Message, e.Excerpt)
	}
}

// source finds the places of a parsed file.
type source struct {
	name  string
	lines []string
	file  *ast.File
}

func (s *source) at(t *token.Token, message string) *FileError {
	e := &FileError{File: s.name, Message: message}
	if t == nil || t.Position == nil {
		return e
	}
	e.Line, e.Column = t.Position.Line, t.Position.Column
	e.Excerpt = s.excerpt(e.Line, e.Column)
	return e
}

// excerpt shows the line with what stands around it.
func (s *source) excerpt(line, column int) string {
	var b strings.Builder
	for n := max(1, line-3); n <= min(line+3, len(s.lines)); n++ {
		mark := ' '
		if n == line {
			mark = '>'
		}
		fmt.Fprintf(&b, "%c %3d | %s\n", mark, n, s.lines[n-1])
		if n == line {
			fmt.Fprintf(&b, "%s^\n", strings.Repeat(" ", len("> 123 | ")+max(column, 1)-1))
		}
	}
	return strings.TrimRight(b.String(), "\n ")
}

// fail makes the error of the place that path leads to: keys and list indexes from the top. A place that is not in the
// file counts as the last one on the way that is.
func (s *source) fail(path []any, format string, args ...any) *FileError {
	var at *token.Token
	if len(s.file.Docs) > 0 {
		node := s.file.Docs[0].Body
		for _, step := range path {
			next, keyToken := child(node, step)
			if next == nil {
				break
			}
			node, at = next, keyToken
		}
	}
	return s.at(at, fmt.Sprintf(format, args...))
}

// child gives the node below, and the token to point at: a key's, or a list element's own.
func child(node ast.Node, step any) (ast.Node, *token.Token) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			if k, ok := step.(string); ok && keyText(v) == k {
				return v.Value, v.Key.GetToken()
			}
		}
	case *ast.MappingValueNode:
		if k, ok := step.(string); ok && keyText(n) == k {
			return n.Value, n.Key.GetToken()
		}
	case *ast.SequenceNode:
		if i, ok := step.(int); ok && i < len(n.Values) {
			return n.Values[i], n.Values[i].GetToken()
		}
	case *ast.AnchorNode:
		return child(n.Value, step)
	}
	return nil, nil
}

func keyText(v *ast.MappingValueNode) string { return v.Key.GetToken().Value }

// read decodes the text strictly.
func read(name string, text []byte) (*file, *source, error) {
	src := &source{name: name, lines: strings.Split(strings.TrimRight(string(text), "\n"), "\n")}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, nil, src.translate(err)
	}
	src.file = parsed
	if len(parsed.Docs) > 1 {
		return nil, nil, src.at(parsed.Docs[1].GetToken(), "a mapping is one document: remove the second one")
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil || parsed.Docs[0].Body.Type() == ast.NullType {
		return nil, nil, &FileError{File: name, Message: "the file is empty: it must begin with version: 1"}
	}
	f := new(file)
	if err := yaml.NodeToValue(parsed.Docs[0].Body, f, yaml.Strict()); err != nil {
		return nil, nil, src.translate(err)
	}
	return f, src, nil
}

// translate puts the library's error into words for somebody who does not know our Go types.
func (s *source) translate(err error) error {
	var unknown *yaml.UnknownFieldError
	var kind *yaml.TypeError
	var node *yaml.UnexpectedNodeTypeError
	var any yaml.Error
	switch {
	case errors.As(err, &unknown):
		key := unknown.Token.Value
		return s.at(unknown.Token, fmt.Sprintf("unknown key %q%s", key, didYouMean(key, fileKeys())))
	case errors.As(err, &kind):
		return s.at(kind.Token, fmt.Sprintf("here stands %s, but this must be %s", article(kind.SrcType), article(kind.DstType)))
	case errors.As(err, &node):
		return s.at(node.Token, fmt.Sprintf("here stands a %s, but this must be a %s", yamlWord(node.Actual), yamlWord(node.Expected)))
	case errors.As(err, &any):
		return s.at(any.GetToken(), any.GetMessage())
	default:
		return &FileError{File: s.name, Message: err.Error()}
	}
}

func article(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return article(t.Elem())
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		if t == reflect.TypeFor[yaml.MapSlice]() {
			return "a group of keys"
		}
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a group of keys"
	default:
		return "a number"
	}
}

func yamlWord(t ast.NodeType) string {
	switch t {
	case ast.MappingType, ast.MappingValueType:
		return "group of keys"
	case ast.SequenceType:
		return "list"
	case ast.NullType:
		return "nothing"
	case ast.StringType, ast.LiteralType:
		return "text"
	default:
		return strings.ToLower(t.String())
	}
}

// fileKeys are all the keys of the format.
func fileKeys() []string {
	var keys []string
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				if key := t.Field(i).Tag.Get("yaml"); key != "" {
					keys = append(keys, key)
					walk(t.Field(i).Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[file]())
	slices.Sort(keys)
	return slices.Compact(keys)
}

// didYouMean is a hint for the error's end, or nothing when no candidate is near.
func didYouMean(word string, candidates []string) string {
	best, at := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(word, c); d < at {
			best, at = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance counts the letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
