package mapping

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"casebook.example/audit/deploy/reference"
)

const schemaFile = "../deploy/mapping.schema.json"

// described says what each key of the file is for, as an editor shows it.
var described = map[string]string{
	"file.version":                "The format of this file: 1.",
	"file.tenant":                 "The column that names a row's tenant; none, or REFERENCE.COLUMN.",
	"file.context":                "Session variables that name the user, in the order in which they count; behind one that holds JSON the path of the user in it.",
	"file.users":                  "Where the users are.",
	"file.custom_fields":          "The table that says what the keys of jsonb columns are called.",
	"file.noise":                  "Columns without audit meaning, in every table: a change of nothing else makes no entry.",
	"file.authors":                "Columns that name the author of a row: where they contradict the session, the entry says so.",
	"file.record_types":           "The values of type columns that name records, and their tables.",
	"file.tables":                 "Every table, as schema.name.",
	"fileUsers.table":             "schema.name of the users' table.",
	"fileUsers.id":                "Its key.",
	"fileUsers.email":             "Column with the e-mail address.",
	"fileUsers.name":              "Column with the name that is shown.",
	"fileUsers.kind":              "Column with the kind of account.",
	"fileUsers.initiators":        "What a kind of account is: user, application or system.",
	"fileAuthors.create":          "Column that says who made a row.",
	"fileAuthors.update":          "Column that says who changed it last.",
	"fileDefinitions.table":       "schema.name of the definitions.",
	"fileDefinitions.tenant":      "Its column with the tenant.",
	"fileDefinitions.record_type": "Its column with the type of record.",
	"fileDefinitions.key":         "Its column with the key.",
	"fileDefinitions.label":       "Its column with what the field is called.",
	"fileDefinitions.sensitive":   "Its column that says that values are masked.",
	"fileTable.fate":              "Without record and owner: log (an entry without a record), labels (no entry, names for others), excluded (no entry, counted), off (not published).",
	"fileTable.reason":            "Why there is no entry, or no record.",
	"fileTable.key":               "The primary key, when it is not id.",
	"fileTable.record":            "The row is a record: what an administrator searches.",
	"fileTable.resource":          "What an administrator calls the rows.",
	"fileTable.section":           "The heading inside the record.",
	"fileTable.name":              "What a row is called: {column}, {column.other}, {column[0]}, {column:40}, {column:date}, {a|b|'text'}.",
	"fileTable.called":            "What other rows call a record, where that differs from its name.",
	"fileTable.tenant":            "Another column than the usual one; none, or REFERENCE.COLUMN.",
	"fileTable.owner":             "The way to the record: the first that has a value counts; of those with from, all rows.",
	"fileTable.owner_optional":    "A row without an owner is right.",
	"fileTable.also":              "Further records that list the entry.",
	"fileTable.references":        "Columns that show the name of another row.",
	"fileTable.masked":            "That it changed is stored, the values are not.",
	"fileTable.never":             "Like masked, for secrets.",
	"fileTable.restricted":        "Stored, and shown only with a right to the record.",
	"fileTable.noise":             "More columns without audit meaning.",
	"fileTable.enums":             "Columns whose values are words: in_progress reads in progress.",
	"fileTable.money":             "Columns that hold amounts of money.",
	"fileTable.hashed":            "Masked columns with a keyed hash beside, so that equal values can be proven equal.",
	"fileTable.labels":            "What columns are called, where the name does not say it.",
	"fileTable.soft_delete":       "Columns that mark a row as deleted.",
	"fileTable.custom_fields":     "The jsonb column with custom fields.",
	"fileTable.words":             "The sentences of entries.",
	"fileTable.system":            "Changes that are the system's, whatever the session says: each rule by itself, all conditions of one.",
	"fileRecord.application":      "Where the record lives: Engage, Intake, Providers, People.",
	"fileRecord.type":             "What it is: Case, Report, Provider, Person.",
	"fileOwner.column":            "Column with the key of the row that this one hangs on.",
	"fileOwner.table":             "Its table.",
	"fileOwner.type":              "Column that says which table id leads to.",
	"fileOwner.id":                "Column with the key of a row of that table.",
	"fileOwner.tables":            "Tables of the type's values, besides those of record_types.",
	"fileOwner.from":              "Table whose rows name this one.",
	"fileOwner.by":                "The column by which they do.",
	"fileRef.label":               "What the reference is called.",
	"fileRef.table":               "The table of the row that is named.",
	"fileSoft.column":             "Any value means deleted, or the value below.",
	"fileSoft.by":                 "Column that says who deleted it.",
	"fileSoft.value":              "The value that means deleted.",
	"fileSoft.unless_changed":     "Columns that make it something else than a deletion when they change too.",
	"fileCustom.column":           "The jsonb column.",
	"fileCustom.record_type":      "The type of record that the definitions have.",
	"fileWords.create":            "A row came.",
	"fileWords.create_when":       "COLUMN=VALUE, and the words when it holds.",
	"fileWords.update":            "A row changed.",
	"fileWords.update_of":         "COLUMN or COLUMN=VALUE, and the words when it changed; {old} and {new} are its values.",
	"fileWords.delete":            "A row went.",
	"fileWords.soft_delete":       "A row was marked as deleted.",
	"fileWords.restore":           "And no longer is.",
	"fileSystem.on":               "create, update, delete; none: all.",
	"fileSystem.no_user":          "The session named no user.",
	"fileSystem.only":             "Nothing but these columns changed.",
	"fileSystem.column":           "A column of the row, or of via, has the value.",
	"fileSystem.value":            "That value.",
	"fileSystem.is_null":          "Or none.",
	"fileSystem.via":              "The table of the row that this one hangs on.",
}

// schemaOf writes a Go type of the file as JSON Schema.
func schemaOf(t *testing.T, typ reflect.Type, used map[string]bool) map[string]any {
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(t, typ.Elem(), used)
	case reflect.String:
		if typ == reflect.TypeFor[Fate]() {
			return map[string]any{"enum": []any{"log", "labels", "excluded", "off"}}
		}
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"const": 1}
	case reflect.Slice:
		if typ == reflect.TypeFor[yaml.MapSlice]() {
			return map[string]any{"type": "object", "additionalProperties": map[string]any{"type": []any{"string", "null"}}}
		}
		return map[string]any{"type": "array", "items": schemaOf(t, typ.Elem(), used)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t, typ.Elem(), used)}
	case reflect.Struct:
		properties := map[string]any{}
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			name := typ.Name() + "." + key
			used[name] = true
			property := schemaOf(t, f.Type, used)
			if property["description"] = described[name]; described[name] == "" {
				t.Errorf("nothing is said of the key %s", name)
			}
			properties[key] = property
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	}
	t.Fatalf("no schema for %s", typ)
	return nil
}

// TestSchema holds the JSON Schema that editors use to the types that read the file.
func TestSchema(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	schema := schemaOf(t, reflect.TypeFor[file](), used)
	for name := range described {
		if !used[name] {
			t.Errorf("%s is described, but is no key", name)
		}
	}
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "casebook-audit mapping"
	schema["required"] = []any{"version", "tables"}
	want, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not the schema of the types: go test ./mapping -run TestSchema -update", schemaFile)
	}

	compiler := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("mapping.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("mapping.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(text string) error {
		value, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
		if err != nil {
			return err
		}
		return compiled.Validate(instance)
	}
	for name, text := range map[string]string{"the reference mapping": reference.Mapping, "the small one": small} {
		if err := validate(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, wrong := range []string{
		strings.Replace(small, "resource: Notes", "resorce: Notes", 1), strings.Replace(small, "fate: off", "fate: of", 1),
		strings.Replace(small, "noise: [updated_at]", "noise: updated_at", 1), strings.Replace(small, "version: 1", "version: 2", 1),
	} {
		if validate(wrong) == nil {
			t.Errorf("an editor finds nothing wrong with\n%s", wrong)
		}
	}
}
