package page

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"casebook.example/audit/query"
)

const (
	sameTransaction = 20       // further entries of the transaction that are named
	longText        = 60       // characters from which on two texts are compared word by word
	stretch         = 24       // words of an unchanged stretch that are shown at each end
	shownText       = 20_000   // characters of one value that are shown; the raw JSON has all
	rawLimit        = 64 << 10 // bytes of raw JSON that stand in the page; the API has all
)

// entryView is the page of one entry.
type entryView struct {
	base
	Row  row
	Day  string
	Fact string // the act in a line, for the title
	Zone zoneView
	Back string // everything about the record
}

// detail is an entry in full.
type detail struct {
	*query.Entry
	Row      row
	Columns  [2]string // of the changes: what the values are called; the first is "" where there is only one
	Changes  []change
	Also     []crumb
	Who      []factList
	Chain    []fact
	Same     []row // the other entries of the transaction
	SameAll  string
	SameMore bool
	Raw      string
	RawURL   string
	Remark   string
}

// change is one changed column, in full.
type change struct {
	Label, Column, Type string
	Old, New            shown
	Restricted          bool
	Diff                []piece // for long texts, instead of Old and New
}

// piece is a part of a compared text. Of a long one in both, Skipped says how many words are left out.
type piece struct {
	Op      string // same, old, new, skip
	Text    string
	Skipped int
}

type fact struct {
	Name, Text string
	Code       bool
	Note       string
	Href       string
}

// entry shows one entry: a page of its own, or with fragment=1 what the table's row opens to.
func (h *handler) entry(w http.ResponseWriter, r *query.Request) error {
	if ok, err := h.admitted(w, r, "entry"); !ok {
		return err
	}
	given, errs := query.Parameters(r.URL.RawQuery, "tz", "fragment")
	zone, err := query.Zone(given["tz"])
	if len(errs) > 0 || err != nil {
		return query.NewProblem(http.StatusBadRequest, "The address has a parameter that this page does not know. It takes tz, the name of a time zone.")
	}
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 0 {
		return query.NewProblem(http.StatusNotFound, "The number of an entry is a whole number from 0 on.")
	}
	e, err := h.Service.Entry(r.Context(), r.Caller, seq)
	if err != nil {
		return err
	}
	s := &state{values: map[string][]string{}, zone: zone}
	if given["tz"] != "" {
		s.values.Set("tz", given["tz"])
	}
	d, err := h.detail(r, s, e)
	if err != nil {
		return err
	}
	if given["fragment"] != "" {
		return h.render(w, http.StatusOK, "detail", d)
	}
	view := &entryView{
		base: newBase(r, "Entry "+strconv.FormatUint(e.Seq, 10)+" – Audit log"), Row: d.Row, Day: d.Row.at.Format("Monday, 2 January 2006"),
		Zone: zoneView{Name: zone.String(), Param: given["tz"], UTC: "/entries/" + strconv.FormatUint(e.Seq, 10), To: "/entries/" + strconv.FormatUint(e.Seq, 10) + "?tz=ZONE"},
	}
	view.Row.Detail = d
	view.Row.SayZone = true
	return h.render(w, http.StatusOK, "entry", view)
}

func (h *handler) detail(r *query.Request, s *state, e *query.Entry) (*detail, error) {
	d := &detail{Entry: e, Row: newRow(s, e), Columns: [2]string{"Before", "After"}, Remark: e.Remark, RawURL: "/v1/entries/" + strconv.FormatUint(e.Seq, 10)}
	switch e.Action {
	case "create":
		d.Columns = [2]string{"", "Value"}
	case "delete":
		d.Columns = [2]string{"Value before", ""}
	}
	for _, c := range e.Changes {
		d.Changes = append(d.Changes, changeOf(c, s))
	}
	for _, also := range e.Also {
		d.Also = append(d.Also, crumb{Text: also.Name, Href: recordURL(s, also), Class: also.Application + " · " + also.Type})
	}
	d.Who, d.Chain = facts(s, e), chainFacts(s, e)
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(raw) <= rawLimit {
		d.Raw = string(raw)
	}
	return d, h.same(r, s, e, d)
}

// same names the other entries of the transaction: what one act did elsewhere.
func (h *handler) same(r *query.Request, s *state, e *query.Entry, d *detail) error {
	if e.Position == nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, e.CommittedAt)
	if err != nil {
		return err
	}
	f := query.Filter{Transaction: e.Position.CommitLSN, From: at, To: at.Add(time.Microsecond), Oldest: true}
	list, err := h.Service.List(r.Context(), r.Caller, f, query.Page{Limit: sameTransaction + 1})
	if err != nil {
		return err
	}
	for _, other := range list.Entries {
		if other.Seq != e.Seq && len(d.Same) < sameTransaction {
			d.Same = append(d.Same, newRow(s, other))
		}
	}
	d.SameMore = list.Next != ""
	if len(d.Same) > 0 {
		d.SameAll = "/?" + encode(map[string][]string{
			"application": {everything}, "record": {everything}, "from": {e.CommittedAt}, "to": {e.CommittedAt}, "transaction": {e.Position.CommitLSN},
			"order": {"oldest"}, "tz": s.values["tz"],
		})
	}
	return nil
}

func changeOf(c query.Change, s *state) change {
	v := change{Label: c.Label, Column: c.Column, Type: c.Type, Restricted: c.Restricted, Old: show(c.Old, reads(c), s.zone), New: show(c.New, reads(c), s.zone)}
	if comparable(c.Old) && comparable(c.New) && (len(*c.Old.Value) > longText || len(*c.New.Value) > longText) && !structured(c.Type) {
		v.Diff = pieces(diff(*c.Old.Value, *c.New.Value))
	}
	v.Old.Text, v.New.Text = cut(v.Old.Text, shownText), cut(v.New.Text, shownText)
	return v
}

func comparable(v *query.Value) bool {
	return v != nil && v.State == "value" && v.Value != nil && v.Name == ""
}

func structured(typ string) bool { return typ == "bytea" || typ == "uuid" }

// pieces folds what did not change, and ends after shownText characters.
func pieces(edits []edit) []piece {
	var list []piece
	room := shownText
	add := func(op, text string) {
		if text == "" || room <= 0 {
			return
		}
		list = append(list, piece{Op: op, Text: cut(text, room)})
		room -= len(text)
	}
	edits = merged(edits)
	for i, e := range edits {
		switch e.Op {
		case '-':
			add("old", e.Text)
		case '+':
			add("new", e.Text)
		default:
			w := words(e.Text)
			n := 2 * stretch // a word and what stands behind it
			if len(w) <= 2*n+8 {
				add("same", e.Text)
				continue
			}
			if i > 0 {
				add("same", strings.Join(w[:n], ""))
				w = w[n:]
			}
			tail := []string{}
			if i < len(edits)-1 {
				w, tail = w[:len(w)-n], w[len(w)-n:]
			}
			list = append(list, piece{Op: "skip", Skipped: countWords(w)})
			add("same", strings.Join(tail, ""))
		}
	}
	return list
}

// merged joins edits that only white space keeps apart: a phrase for a phrase reads better than word for word.
func merged(edits []edit) []edit {
	var list []edit
	before, after := "", ""
	flush := func() {
		if before != "" {
			list = append(list, edit{'-', before})
		}
		if after != "" {
			list = append(list, edit{'+', after})
		}
		before, after = "", ""
	}
	for i, e := range edits {
		switch {
		case e.Op == '-':
			before += e.Text
		case e.Op == '+':
			after += e.Text
		case before != "" && after != "" && i < len(edits)-1 && strings.TrimSpace(e.Text) == "":
			before, after = before+e.Text, after+e.Text
		default:
			flush()
			list = append(list, e)
		}
	}
	flush()
	return list
}

func countWords(list []string) int {
	n := 0
	for _, w := range list {
		if strings.TrimSpace(w) != "" {
			n++
		}
	}
	return n
}

// factList is a group of facts under a heading.
type factList struct {
	Heading string
	Facts   []fact
}

// facts are the two layers of who acted, what the application asserted and what the server observed, and what else the
// application sent along.
func facts(s *state, e *query.Entry) []factList {
	list := []factList{{Heading: "Who, as the application said"}, {Heading: "Who, as the server saw it"}, {Heading: "Sent along"}}
	add := func(to int, name, text string, code bool) {
		if text != "" {
			list[to].Facts = append(list[to].Facts, fact{Name: name, Text: text, Code: code})
		}
	}
	a := e.Actor
	add(0, "User ID", a.UserID, true)
	add(0, "User", strings.TrimSpace(a.Name+" "+bracket(a.Email)), false)
	add(1, "Database role", a.DBUser, true)
	add(1, "Program", a.DBApp, true)
	add(1, "Address", a.ClientAddr, true)
	if a.BackendPID != 0 {
		add(1, "Server process", strconv.FormatInt(a.BackendPID, 10), true)
	}
	if e.Kind == "change" && len(list[0].Facts) == 0 {
		list[0].Facts = []fact{{Name: "User", Note: "nobody was named"}}
	}
	for _, f := range e.Fields {
		v := show(&f.Value, f.Type, s.zone)
		name := strings.TrimPrefix(strings.TrimPrefix(f.Path, "ctx."), "access.")
		list[2].Facts = append(list[2].Facts, fact{Name: capital(strings.ReplaceAll(name, "_", " ")), Text: cut(v.Text, shownText), Note: v.Note, Code: v.Code})
	}
	return slices.DeleteFunc(list, func(l factList) bool { return len(l.Facts) == 0 })
}

func bracket(s string) string {
	if s == "" {
		return ""
	}
	return "<" + s + ">"
}

// chainFacts say where the entry stands in the chain.
func chainFacts(s *state, e *query.Entry) []fact {
	recorded, _ := time.Parse(time.RFC3339Nano, e.RecordedAt)
	list := []fact{
		{Name: "Place in the chain", Text: strconv.FormatUint(e.Seq, 10), Code: true},
		{Name: "Leaf hash (SHA-256)", Text: e.LeafHash, Code: true},
		{Name: "Recorded", Text: recorded.In(s.zone).Format("2 Jan 2006, 15:04:05.000000 MST")},
	}
	if p := e.Position; p != nil {
		list = append(list, fact{Name: "Commit LSN", Text: p.CommitLSN, Code: true})
		if p.XID != 0 {
			list = append(list, fact{Name: "Transaction", Text: strconv.FormatInt(p.XID, 10), Code: true})
		}
	}
	if e.Table != "" {
		list = append(list, fact{Name: "Table", Text: e.Table, Code: true})
	}
	if e.RowID != "" {
		list = append(list, fact{Name: "Row", Text: e.RowID, Code: true})
	}
	return list
}
