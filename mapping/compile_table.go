package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// tableCompiler turns what the file says of one table into its rules.
type tableCompiler struct {
	*compiler
	t *table
	f *fileTable
}

func (c *tableCompiler) fail(path []any, format string, args ...any) error {
	return c.src.fail(append([]any{"tables", c.t.name}, path...), format, args...)
}

func (c *tableCompiler) compile() error {
	t, f := c.t, c.f
	t.key, t.record, t.resource, t.section = f.Key, f.Record, f.Resource, f.Section
	t.optional, t.labels, t.soft, t.custom, t.reason = f.OwnerOptional, f.Labels, f.SoftDelete, f.CustomFields, f.Reason
	if len(t.key) == 0 {
		t.key = []string{"id"}
	}
	if err := c.fate(); err != nil {
		return err
	}
	t.tenant = f.Tenant
	if t.tenant == "" {
		t.tenant = c.file.Tenant
	}
	if t.tenant == "none" {
		t.tenant = ""
	}
	t.tenant, t.tenantOf, _ = strings.Cut(t.tenant, ".")
	if err := c.classes(); err != nil {
		return err
	}
	if err := c.references(); err != nil {
		return err
	}
	var err error
	if t.owner, err = c.owners("owner", f.Owner); err != nil {
		return err
	}
	if t.also, err = c.owners("also", f.Also); err != nil {
		return err
	}
	if t.rowName, err = c.template(f.Name, "name"); err != nil {
		return err
	}
	if t.called, err = c.template(f.Called, "called"); err != nil {
		return err
	}
	if t.called != nil && t.record == nil {
		return c.fail([]any{"called"}, "only a record may be called otherwise where other rows refer to it")
	}
	t.pairs = map[string]*ownerRule{}
	for i := range t.owner {
		if t.owner[i].typ != "" {
			t.pairs[t.owner[i].column] = &t.owner[i]
		}
	}
	if err := c.words(); err != nil {
		return err
	}
	if err := c.softAndCustom(); err != nil {
		return err
	}
	if err := c.systemRules(); err != nil {
		return err
	}
	if t.tenantOf != "" && t.refs[t.tenant] == nil {
		return c.fail([]any{"tenant"}, "%s.%s needs a reference on %s", t.tenant, t.tenantOf, t.tenant)
	}
	c.columns()
	return nil
}

func (c *tableCompiler) fate() error {
	t, f := c.t, c.f
	switch f.Fate {
	case "":
		t.fate = FateBelongs
		if f.Record != nil {
			t.fate = FateRecord
		}
	case FateLog, FateLabels, FateExcluded, FateOff:
		t.fate = f.Fate
		if f.Record != nil || len(f.Owner) > 0 || len(f.Also) > 0 {
			return c.fail([]any{"fate"}, "a table with fate %s has no record and no owner", f.Fate)
		}
		if f.Fate != FateLog && f.Reason == "" {
			return c.fail([]any{"fate"}, "say why: reason is missing")
		}
	default:
		fates := []string{string(FateLog), string(FateLabels), string(FateExcluded), string(FateOff)}
		return c.fail([]any{"fate"}, "a fate is log, labels, excluded or off, not %q%s", f.Fate, didYouMean(string(f.Fate), fates))
	}
	if t.fate == FateBelongs && len(f.Owner) == 0 {
		return c.fail(nil, "%s has neither a record, nor an owner, nor a fate (log, labels, excluded, off)", t.name)
	}
	if f.Record != nil {
		if f.Record.Application == "" || f.Record.Type == "" {
			return c.fail([]any{"record"}, "a record needs application and type")
		}
		if len(f.Owner) > 0 {
			return c.fail([]any{"owner"}, "a record has no owner; further records that its entries belong to stand under also")
		}
		if len(t.key) != 1 {
			return c.fail([]any{"key"}, "the key of a record must be one column")
		}
		if f.Name == "" {
			return c.fail([]any{"record"}, "a record needs a name, like name: \"{name} Case\"")
		}
	}
	if t.resource == "" && (t.fate == FateRecord || t.fate == FateBelongs || t.fate == FateLog) {
		return c.fail(nil, "resource is missing: what an administrator calls the rows of %s", t.name)
	}
	return nil
}

func (c *tableCompiler) classes() error {
	t, f := c.t, c.f
	t.class, t.noise, t.enums = map[string]class{}, map[string]bool{}, map[string]bool{}
	for _, group := range []struct {
		name    string
		columns []string
		class   class
	}{{"restricted", f.Restricted, classRestricted}, {"masked", f.Masked, classMasked}, {"never", f.Never, classNever}} {
		for i, column := range group.columns {
			if t.class[column] != classPlain {
				return c.fail([]any{group.name, i}, "%s stands in two of restricted, masked and never", column)
			}
			t.class[column] = group.class
		}
	}
	for _, column := range c.file.Noise {
		t.noise[column] = true
	}
	for _, column := range f.Noise {
		t.noise[column] = true
	}
	for _, column := range f.Enums {
		t.enums[column] = true
	}
	t.money, t.hashed = map[string]bool{}, map[string]bool{}
	for _, column := range f.Money {
		t.money[column] = true
	}
	for i, column := range f.Hashed {
		if t.class[column] != classMasked {
			return c.fail([]any{"hashed", i}, "%s must be masked too: a hash beside its value says nothing, and of a secret that is never stored there is no hash either", column)
		}
		t.hashed[column] = true
	}
	for i, column := range t.key {
		if t.class[column] >= classMasked {
			return c.fail([]any{"key", i}, "%s is masked: it cannot be the key, which every entry shows", column)
		}
	}
	return nil
}

func (c *tableCompiler) references() error {
	c.t.refs = map[string]*refRule{}
	for _, column := range slices.Sorted(maps.Keys(c.f.References)) {
		ref := c.f.References[column]
		if ref == nil || ref.Table == "" {
			return c.fail([]any{"references", column}, "a reference needs a table, like %s: {label: Case Type, table: config.field_values}", column)
		}
		to, err := c.find(ref.Table, "tables", c.t.name, "references", column, "table")
		if err != nil {
			return err
		}
		if keys := c.file.Tables[ref.Table]; len(keys.Key) > 1 {
			return c.fail([]any{"references", column}, "%s has a key of %d columns: one column cannot refer to it", ref.Table, len(keys.Key))
		}
		c.t.refs[column] = &refRule{label: ref.Label, t: to}
	}
	return nil
}

func (c *tableCompiler) owners(key string, list []fileOwner) ([]ownerRule, error) {
	rules := make([]ownerRule, len(list))
	for i, o := range list {
		path := []any{key, i}
		switch {
		case o.Column != "" && o.Table != "" && o.Type == "" && o.ID == "" && o.Tables == nil && o.From == "" && o.By == "":
			to, err := c.find(o.Table, "tables", c.t.name, key, i, "table")
			if err != nil {
				return nil, err
			}
			rules[i] = ownerRule{column: o.Column, to: to}
		case o.From != "" && o.By != "" && o.Column == "" && o.Table == "" && o.Type == "" && o.ID == "" && o.Tables == nil:
			links, err := c.linksTable(o, key, i)
			if err != nil {
				return nil, err
			}
			rules[i] = ownerRule{links: links}
			continue
		case o.Type != "" && o.ID != "" && o.Column == "" && o.Table == "" && o.From == "" && o.By == "":
			rules[i] = ownerRule{column: o.ID, typ: o.Type, tables: map[string]*table{}}
			words := maps.Clone(c.file.RecordTypes)
			if words == nil {
				words = map[string]string{}
			}
			maps.Copy(words, o.Tables)
			if len(words) == 0 {
				return nil, c.fail(path, "tables is missing: which table each value of %s stands for (or write record_types at the top)", o.Type)
			}
			for _, word := range slices.Sorted(maps.Keys(words)) {
				name := words[word]
				to, err := c.find(name, "tables", c.t.name, key, i, "tables", word)
				if err != nil {
					return nil, err
				}
				rules[i].tables[word] = to
			}
		default:
			return nil, c.fail(path, "write {column: case_id, table: cases.cases}, or {type: notable_type, id: notable_id, tables: {...}}, or {from: people.person_addresses, by: address_id}")
		}
		for to := range rules[i].targets {
			if keys := c.file.Tables[to.name]; keys != nil && len(keys.Key) > 1 {
				return nil, c.fail(path, "%s has a key of %d columns: one column cannot lead to it", to.name, len(keys.Key))
			}
		}
	}
	return rules, nil
}

func (c *tableCompiler) template(text string, path ...any) (*template, error) {
	if text == "" {
		return nil, nil
	}
	t, err := parseTemplate(text)
	if err != nil {
		return nil, c.fail(path, "%q: %s", text, err)
	}
	return t, nil
}

func (c *tableCompiler) words() error {
	w, f := &c.t.words, c.f.Words
	thing := c.t.resource
	if c.t.section != "" {
		thing = c.t.section
	}
	if f == nil {
		f = &fileWords{}
	}
	for _, word := range []struct {
		key, text, standard string
		to                  **template
	}{
		{"create", f.Create, thing + ": created", &w.create},
		{"update", f.Update, thing + ": updated", &w.update},
		{"delete", f.Delete, thing + ": deleted permanently", &w.delete},
		{"soft_delete", f.SoftDelete, thing + ": deleted", &w.softDelete},
		{"restore", f.Restore, thing + ": restored", &w.restore},
	} {
		text := word.text
		if text == "" {
			text = strings.NewReplacer("{", "(", "}", ")").Replace(word.standard)
		}
		t, err := c.template(text, "words", word.key)
		if err != nil {
			return err
		}
		for a := range t.atoms {
			if a.which != 0 {
				return c.fail([]any{"words", word.key}, "{old} and {new} stand for the column of an update_of; name the column here")
			}
		}
		*word.to = t
	}
	var err error
	if w.createWhen, err = c.when("create_when", f.CreateWhen); err != nil {
		return err
	}
	w.updateOf, err = c.when("update_of", f.UpdateOf)
	return err
}

func (c *tableCompiler) when(key string, items yaml.MapSlice) ([]whenRule, error) {
	var rules []whenRule
	for name, value := range mapItems(items) {
		text, ok := value.(string)
		if !ok {
			return nil, c.fail([]any{"words", key, name}, "behind %s stand the words", name)
		}
		say, err := c.template(text, "words", key, name)
		if err != nil {
			return nil, err
		}
		column, equals, valued := strings.Cut(name, "=")
		if key == "create_when" && !valued {
			return nil, c.fail([]any{"words", key, name}, "create_when needs a value, like direction=inbound")
		}
		rules = append(rules, whenRule{column: column, value: equals, any: !valued, say: say})
	}
	return rules, nil
}

func (c *tableCompiler) softAndCustom() error {
	for i, s := range c.t.soft {
		if s.Column == "" {
			return c.fail([]any{"soft_delete", i}, "column is missing: the one whose value means deleted")
		}
	}
	if custom := c.t.custom; custom != nil && custom.Column == "" {
		return c.fail([]any{"custom_fields"}, "column is missing: the jsonb column with the custom fields")
	}
	return nil
}

func (c *tableCompiler) systemRules() error {
	for i, s := range c.f.System {
		path := []any{"system", i}
		for _, on := range s.On {
			if !slices.Contains([]string{"create", "update", "delete"}, on) {
				return c.fail(path, "on lists create, update or delete, not %q", on)
			}
		}
		if s.Column == "" && (s.Value != "" || s.IsNull || s.Via != "") {
			return c.fail(path, "value, is_null and via need a column")
		}
		if s.Column != "" && (s.Value == "") == !s.IsNull {
			return c.fail(path, "a rule on %s needs either value or is_null: true", s.Column)
		}
		if len(s.On) == 0 && !s.NoUser && len(s.Only) == 0 && s.Column == "" {
			return c.fail(path, "an empty rule would make every change of %s the system's", c.t.name)
		}
		rule := systemRule{fileSystem: s}
		if s.Via != "" {
			to, err := c.find(s.Via, "tables", c.t.name, "system", i, "via")
			if err != nil {
				return err
			}
			rule.via = to
		}
		c.t.system = append(c.t.system, rule)
	}
	return nil
}

// columns collects every column that the file names, for a comparison with the database.
func (c *tableCompiler) columns() {
	t := c.t
	seen := map[string]bool{}
	add := func(columns ...string) {
		for _, column := range columns {
			if column != "" {
				seen[column] = true
			}
		}
	}
	add(t.key...)
	add(c.f.Masked...)
	add(c.f.Never...)
	add(c.f.Restricted...)
	add(c.f.Noise...)
	add(c.f.Enums...)
	add(c.f.Money...)
	add(c.f.Hashed...)
	if t.fate != FateOff && t.fate != FateExcluded {
		add(t.tenant)
	}
	for column := range c.f.References {
		add(column)
	}
	for column := range c.f.Labels {
		add(column)
	}
	for _, rules := range [][]ownerRule{t.owner, t.also} {
		for i := range rules {
			add(rules[i].column, rules[i].typ)
		}
	}
	for _, tpl := range t.templates() {
		for a := range tpl.atoms {
			add(a.col)
		}
	}
	for _, when := range [][]whenRule{t.words.createWhen, t.words.updateOf} {
		for i := range when {
			add(when[i].column)
		}
	}
	for _, s := range t.soft {
		add(s.Column, s.By)
		add(s.UnlessChanged...)
	}
	for i := range t.system {
		if t.system[i].via == nil {
			add(t.system[i].Column)
		}
		add(t.system[i].Only...)
	}
	if t.custom != nil {
		add(t.custom.Column)
	}
	t.columns = slices.Sorted(maps.Keys(seen))
}

func mapItems(s yaml.MapSlice) func(func(string, any) bool) {
	return func(yield func(string, any) bool) {
		for _, item := range s {
			if !yield(fmt.Sprint(item.Key), item.Value) {
				return
			}
		}
	}
}
