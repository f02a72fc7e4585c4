package draft

import (
	"regexp"
	"slices"
	"strings"
)

type soft struct{ column, by, value string }

var (
	noiseNames   = regexp.MustCompile(`^(created_at|updated_at|inserted_at|modified_at|created_on|updated_on|lock_version|version_lock|row_version|xmin_version|created_by(_id|_user_id)?|updated_by(_id|_user_id)?|modified_by(_id)?|search_vector|tsv|.*_count|last_activity_at|last_seen_at|last_sign_in_(at|ip)|current_sign_in_(at|ip)|sign_in_count|synced_at|.*_synced_at|geocoded_at|.*_cache)$`)
	neverNames   = regexp.MustCompile(`(password|passwd|_digest$|_hash$|secret|api_key|private_key|access_token|refresh_token|reset_token|otp|^token$|_token$|storage_key|session_data|credential)`)
	maskedNames  = regexp.MustCompile(`(^|_)(ssn|social_security.*|tax_id|ein|national_id|passport.*|id_value|date_of_birth|dob|birth_?date|phone.*|fax|mobile|line_1|line_2|address_line.*|street.*|postal_code|zip.*|latitude|longitude|iban|account_number|routing_number|card_number|race|races|ethnicity|hispanic.*|religion|sexual_orientation|gender_identity|external_email|from_address|to_addresses|cc_addresses|bcc_addresses|from_number|to_number)$`)
	limitedNames = regexp.MustCompile(`(^|_)(body|notes?|narrative|comments?|description|details|summary|remarks|message|agenda|answer|finding|findings|allegation_text|text|content|diagnosis|instructions)$`)
	moneyTypes   = regexp.MustCompile(`(^|\.)(money|usd|eur|currency|amount)$`)
	moneyNames   = regexp.MustCompile(`(^|_)(cost|price|amount|fee|rate|balance|total)$`)
	textTypes    = regexp.MustCompile(`^(text|character varying|varchar|citext|public\.citext|character|name)`)
	sayingWords  = regexp.MustCompile(`(?i)\b(secret|never leaves?|password|confidential|sensitive|pii|phi|personally identif)`)
)

// like gives the table's column of that name, whatever its case, or one that ends so.
func (t *table) like(word string) string {
	for _, c := range t.Columns {
		if strings.EqualFold(c.Name, word) {
			return c.Name
		}
	}
	for _, c := range t.Columns {
		if strings.HasSuffix(strings.ToLower(c.Name), "_"+word) {
			return c.Name
		}
	}
	return ""
}

// nameColumns is a template out of the table's own columns that most probably says what a row is called; "" when there is
// none. Generated columns don't count: before Postgres 18 they are not in the stream.
func (t *table) nameColumns(s *sketch) string {
	usable := func(word string) string {
		for _, c := range t.Columns {
			lower := strings.ToLower(snake(c.Name))
			if lower == word && !strings.ContainsAny(c.Name, " \t{}[]'.|:") && !c.Generated && !t.references(c.Name) && !neverNames.MatchString(lower) && !maskedNames.MatchString(lower) && !noiseNames.MatchString(lower) {
				return c.Name
			}
		}
		return ""
	}
	first, last := usable("first_name"), usable("last_name")
	if first != "" && last != "" {
		return "{" + first + "} {" + last + "}"
	}
	for _, word := range []string{"name", "title", "display_name", "full_name", "subject", "label", "last_name", "file_name", "filename", "number", "code", "question_label", "address", "kind", "slug"} {
		if c := usable(word); c != "" {
			return "{" + c + "}"
		}
	}
	for _, c := range t.Columns {
		lower := strings.ToLower(c.Name)
		if (strings.HasSuffix(lower, "_name") || strings.HasSuffix(lower, "_title") || strings.HasSuffix(lower, "_number") || strings.HasSuffix(lower, "_label")) && usable(lower) != "" {
			return "{" + c.Name + "}"
		}
	}
	return ""
}

// findColumns says what the columns of a table are.
func (s *sketch) findColumns(t *table) {
	kept := map[string]bool{} // what owners, names and keys need must stay readable
	for _, column := range t.Key {
		kept[column] = true
	}
	for _, ways := range [][]way{t.owners, t.also} {
		for _, w := range ways {
			kept[w.column] = true
			if w.pair != nil {
				kept[w.pair.typ], kept[w.pair.id] = true, true
			}
		}
	}
	if t == s.users {
		kept[t.like("email")] = true
	}
	for _, other := range s.tables { // rows that name this one by a column
		for _, w := range other.owners {
			if w.from == t.Name {
				kept[w.by] = true
			}
		}
	}
	t.name = t.nameColumns(s)
	if t.name == "" && t.kind != record {
		for _, fk := range t.refs {
			if !byColumns.MatchString(strings.ToLower(fk.Columns[0])) && (len(t.owners) == 0 || fk.Columns[0] != t.owners[0].column) {
				t.name = "{" + fk.Columns[0] + "}"
				break
			}
		}
	}
	for _, c := range t.Columns {
		lower := strings.ToLower(snake(c.Name))
		if lower == "deleted_at" || lower == "discarded_at" || lower == "removed_at" || lower == "archived_at" || lower == "voided_at" {
			by := ""
			for _, suffix := range []string{"_by_id", "_by", "_by_user_id"} {
				if x := t.column(strings.TrimSuffix(c.Name, "_at") + suffix); x != nil {
					by = x.Name
					break
				}
			}
			t.soft = append(t.soft, soft{column: c.Name, by: by})
			continue
		}
		if c.Type == "boolean" && (lower == "is_deleted" || lower == "deleted" || lower == "is_archived" || lower == "archived") {
			t.soft = append(t.soft, soft{column: c.Name, value: "true"})
			continue
		}
		if kept[c.Name] || c.Name == s.tenant || strings.Contains(t.name, "{"+c.Name) || slices.ContainsFunc(t.refs, func(fk *ForeignKey) bool { return fk.Columns[0] == c.Name }) && !noiseNames.MatchString(lower) {
			if len(c.Values) > 0 && !c.Numbers && c.Type != "boolean" && !slices.Contains(t.Key, c.Name) && t != s.users {
				t.enums = append(t.enums, c.Name)
			}
			continue
		}
		switch {
		case neverNames.MatchString(lower):
			t.never = append(t.never, c.Name)
		case maskedNames.MatchString(lower), sayingWords.MatchString(c.Comment):
			t.masked = append(t.masked, c.Name)
		case noiseNames.MatchString(lower), c.Type == "tsvector":
			if !slices.Contains(s.noise, c.Name) {
				t.noise = append(t.noise, c.Name)
			}
		case limitedNames.MatchString(lower) && textTypes.MatchString(c.Type) && t.kind != lookup:
			t.limited = append(t.limited, c.Name)
		case moneyTypes.MatchString(c.Type), moneyNames.MatchString(lower) && strings.HasPrefix(c.Type, "numeric"):
			t.money = append(t.money, c.Name)
		case len(c.Values) > 0 && !c.Numbers && c.Type != "boolean":
			t.enums = append(t.enums, c.Name)
		}
	}
}

// findNoise: what many tables have in common and nobody asks about is said once.
func (s *sketch) findNoise() {
	count := map[string]int{}
	for _, t := range s.tables {
		for _, c := range t.Columns {
			if noiseNames.MatchString(strings.ToLower(snake(c.Name))) {
				count[c.Name]++
			}
		}
	}
	for _, column := range sorted(count) {
		if count[column] > 2 {
			s.noise = append(s.noise, column)
		}
	}
}
