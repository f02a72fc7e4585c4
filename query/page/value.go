package page

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"casebook.example/audit/query"
)

// shown is a value as an administrator reads it. The log keeps it as the source wrote it; the raw JSON of an entry shows
// that.
type shown struct {
	Text string
	ID   string // of the row that the value refers to, where Text is its name
	Note string // in place of a text: empty, not known, withheld
	Why  string // what Note means
	Code bool   // Text is an identifier or data
}

// show makes one of a value. typ is the source's type as the entry has it; times are told in zone.
func show(v *query.Value, typ string, zone *time.Location) shown {
	if v == nil {
		return shown{Note: "empty", Why: "An entry about a new or deleted row lists only what had a value."}
	}
	switch v.State {
	case "value":
	case "null":
		return shown{Note: "empty", Why: "The database holds NULL."}
	case "masked":
		return shown{Note: "withheld", Why: "The mapping withholds this value. That it changed is on record, the value is not."}
	case "unchanged":
		return shown{Note: "unchanged", Why: "The value did not change, and the database did not send it."}
	default:
		return shown{Note: "not known", Why: "The database did not send the value. Nothing is made up for it."}
	}
	text := ""
	if v.Value != nil {
		text = *v.Value
	}
	if v.Name != "" {
		return shown{Text: v.Name, ID: text}
	}
	if text == "" {
		return shown{Note: "empty text", Why: "The database holds a text of no characters."}
	}
	s := shown{Text: readable(text, typ, zone)}
	switch typ {
	case "uuid", "bytea", "pg_lsn", "xid", "inet", "cidr", "macaddr", "bit", "varbit":
		s.Code = true
	}
	return s
}

// reads is the type by which a column's values read: its own, unless the mapping says more.
func reads(c query.Change) string {
	switch c.Form {
	case "enum":
		return "the application's.enum"
	case "money":
		return "numeric"
	}
	return c.Type
}

// readable is a value's text in words. What cannot be read as its type says stays as it is.
func readable(text, typ string, zone *time.Location) string {
	if element, array := strings.CutPrefix(typ, "_"); array {
		return readableArray(text, element, zone)
	}
	if element, array := strings.CutSuffix(typ, "[]"); array {
		return readableArray(text, element, zone)
	}
	switch typ {
	case "bool", "boolean":
		switch text {
		case "t", "true":
			return "Yes"
		case "f", "false":
			return "No"
		}
	case "date":
		if t, err := time.Parse(time.DateOnly, text); err == nil {
			return t.Format("2 Jan 2006")
		}
	case "timestamptz":
		for _, form := range []string{"2006-01-02 15:04:05.999999-07", "2006-01-02 15:04:05.999999-07:00"} {
			if t, err := time.Parse(form, text); err == nil {
				return t.In(zone).Format("2 Jan 2006, 15:04:05 MST")
			}
		}
	case "timestamp":
		if t, err := time.Parse("2006-01-02 15:04:05.999999", text); err == nil {
			return t.Format("2 Jan 2006, 15:04:05")
		}
	case "numeric", "int2", "int4", "int8", "integer", "bigint", "float4", "float8":
		return grouped(text)
	case "daterange":
		return readableRange(text)
	case "json", "jsonb":
		return readableJSON(text)
	case "bytea":
		if digits, ok := strings.CutPrefix(text, `\x`); ok && len(digits) > 64 {
			return fmt.Sprintf("%s bytes: %s…", grouped(strconv.Itoa(len(digits)/2)), text[:66])
		}
	}
	if strings.Contains(typ, ".") && enumWord.MatchString(text) { // a type of the application's own
		return capital(strings.ReplaceAll(text, "_", " "))
	}
	return text
}

var enumWord = regexp.MustCompile(`^[a-z][a-z0-9_ ]*$`)

func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// grouped sets commas into a number: 1,955.00 and 20,000, but 1955, which may be a year.
func grouped(text string) string {
	if !number.MatchString(text) {
		return text
	}
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	whole, rest, point := strings.Cut(text, ".")
	if point {
		rest = "." + rest
	}
	if len(whole) < 4 || len(whole) == 4 && !point {
		return sign + text
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return sign + whole + rest
}

func readableArray(text, element string, zone *time.Location) string {
	items, ok := arrayItems(text)
	if !ok {
		return text
	}
	if len(items) == 0 {
		return "none"
	}
	for i, item := range items {
		items[i] = readable(item, element, zone)
	}
	return strings.Join(items, ", ")
}

// arrayItems reads a one-dimensional array literal as Postgres writes it; false: it is another one.
func arrayItems(text string) ([]string, bool) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	body := text[1 : len(text)-1]
	items := []string{}
	for len(body) > 0 {
		var item strings.Builder
		if body[0] == '"' {
			i := 1
			for ; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' && i+1 < len(body) {
					i++
				}
				item.WriteByte(body[i])
			}
			if i >= len(body) {
				return nil, false
			}
			body = body[i+1:]
		} else {
			i := strings.IndexByte(body, ',')
			if i < 0 {
				i = len(body)
			}
			if i == 0 || strings.ContainsAny(body[:i], `{}"\`) {
				return nil, false
			}
			if body[:i] == "NULL" {
				item.WriteString("empty")
			} else {
				item.WriteString(body[:i])
			}
			body = body[i:]
		}
		items = append(items, item.String())
		if body == "" {
			break
		}
		if body[0] != ',' || len(body) == 1 {
			return nil, false
		}
		body = body[1:]
	}
	return items, true
}

// readableRange tells a range of days. The last one of [a,b) is the day before b.
func readableRange(text string) string {
	if text == "empty" || len(text) < 3 {
		return text
	}
	low, high, ok := strings.Cut(text[1:len(text)-1], ",")
	from, err1 := time.Parse(time.DateOnly, low)
	to, err2 := time.Parse(time.DateOnly, high)
	if !ok || err1 != nil && low != "" || err2 != nil && high != "" {
		return text
	}
	if text[0] == '(' {
		from = from.AddDate(0, 0, 1)
	}
	if text[len(text)-1] == ')' {
		to = to.AddDate(0, 0, -1)
	}
	switch {
	case low == "" && high == "":
		return "always"
	case low == "":
		return "until " + to.Format("2 Jan 2006")
	case high == "":
		return "from " + from.Format("2 Jan 2006")
	}
	return from.Format("2 Jan 2006") + " to " + to.Format("2 Jan 2006")
}

// readableJSON gives an object a line a key, with words for its keys.
func readableJSON(text string) string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil || len(object) == 0 {
		return text
	}
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteByte('\n')
		}
		value := string(object[key])
		var s string
		if json.Unmarshal(object[key], &s) == nil && value != "null" {
			value = s
		}
		b.WriteString(capital(strings.ReplaceAll(key, "_", " ")) + ": " + value)
	}
	return b.String()
}
