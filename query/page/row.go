package page

import (
	"strconv"
	"time"

	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
)

// row is one entry as a line of the table.
type row struct {
	*query.Entry
	at      time.Time
	Time    string
	ZoneAt  string // abbreviation of the zone at that moment
	Exact   string // RFC 3339 with the zone's offset
	Full    string // in words
	SayZone bool
	Said    string // the summary
	Verb    verb
	Who     who
	Where   []crumb
	RowName string // where the crumbs do not say it
	Digest  []digest
	More    int    // changes that the digest does not show
	Listed  bool   // the entry belongs to another record, and is listed under the one that was asked for too
	Link    string // URL of the entry
	Close   string // URL of the list without it; "": it is not open
	Detail  *detail
}

// verb is an action in a word, with a class for its mark.
type verb struct{ Word, Class string }

// who is the one who acted: a name, and for everybody but a user a tag that says what kind of actor that is.
type who struct {
	Class, Tag string
	Name, Mail string
	Why        string // what the tag means
	Href       string // all that this user did
}

// crumb is a step of application > record > resource.
type crumb struct{ Text, Href, Class string }

// digest is a change in a few words.
type digest struct {
	Label    string
	Old, New shown
	Only     bool // New says it all
}

// What a row shows at most; the entry in full has all of it.
const (
	digestChanges = 2
	digestLength  = 48 // characters
	digestText    = 4000
	nameLength    = 100
	saidLength    = 240
)

func (h *handler) row(r *query.Request, s *state, e *query.Entry) (row, error) {
	v := newRow(s, e)
	seq := strconv.FormatUint(e.Seq, 10)
	if s.open != seq {
		return v, nil
	}
	v.Close = s.at() + "#e" + seq
	d, err := h.detail(r, s, e)
	v.Detail = d
	return v, err
}

func newRow(s *state, e *query.Entry) row {
	at, _ := time.Parse(time.RFC3339Nano, e.CommittedAt) // we wrote it
	at = at.In(s.zone)
	v := row{
		Entry: e, Said: cut(e.Summary, saidLength), at: at, Time: at.Format("15:04:05"), ZoneAt: at.Format("MST"), Exact: at.Format("2006-01-02T15:04:05.000000Z07:00"), Full: at.Format("2 Jan 2006, 15:04:05.000000 MST (-07:00)"),
		Verb: verbOf(e), Who: whoOf(s, e), Where: where(s, e), Link: entryURL(s, e.Seq),
	}
	if e.RowName != "" && (e.Record == nil || e.RowName != e.Record.Name) {
		v.RowName = cut(e.RowName, nameLength)
	}
	v.Listed = s.filter.RecordID != "" && e.Record != nil && e.Record.ID != s.filter.RecordID
	if e.Action != ledger.ActionUpdate {
		return v
	}
	for _, c := range e.Changes {
		if len(v.Digest) == digestChanges {
			v.More++
			continue
		}
		v.Digest = append(v.Digest, digestOf(c, s.zone))
	}
	return v
}

// digestOf tells a change in a few words. Of a longer text it tells what differs.
func digestOf(c query.Change, zone *time.Location) digest {
	d := digest{Label: cut(c.Label, nameLength), Old: show(c.Old, reads(c), zone), New: show(c.New, reads(c), zone)}
	if c.Old != nil && c.New != nil && c.Old.State == "masked" && c.New.State == "masked" {
		d.New.Note, d.Only = "changed, withheld", true
	}
	if comparable(c.Old) && comparable(c.New) && !structured(c.Type) && max(len(*c.Old.Value), len(*c.New.Value)) > digestLength {
		d.Old.Text, d.New.Text = difference(*c.Old.Value, *c.New.Value)
		if d.Old.Text == "" {
			d.Old = shown{Note: "…"}
		}
		if d.New.Text == "" {
			d.New = shown{Note: "taken out"}
		}
	}
	d.Old.Text, d.New.Text = cut(d.Old.Text, digestLength), cut(d.New.Text, digestLength)
	return d
}

// difference is where two texts first differ. Of very long ones only their beginnings are compared.
func difference(before, after string) (from, to string) {
	if len(before) > digestText || len(after) > digestText {
		return before, after
	}
	for _, e := range merged(diff(before, after)) {
		switch {
		case e.Op == '-' && to == "":
			from = e.Text
		case e.Op == '+':
			return from, e.Text
		case from != "":
			return from, to
		}
	}
	return from, to
}

func entryURL(s *state, seq uint64) string {
	address := "/entries/" + strconv.FormatUint(seq, 10)
	if tz := s.get("tz"); tz != "" {
		address += "?tz=" + tz
	}
	return address
}

func verbOf(e *query.Entry) verb {
	switch e.Action {
	case ledger.ActionCreate:
		return verb{"Created", "create"}
	case ledger.ActionUpdate:
		return verb{"Changed", "update"}
	case ledger.ActionDelete:
		return verb{"Deleted", "delete"}
	case "truncate":
		return verb{"Emptied", "delete"}
	case "gap":
		return verb{"Gap", "alarm"}
	case "":
		return verb{capital(e.Kind), "other"}
	}
	return verb{capital(e.Action), "other"}
}

func whoOf(s *state, e *query.Entry) who {
	a := e.Actor
	w := who{Name: a.Name, Mail: a.Email}
	if w.Name == "" {
		w.Name, w.Mail = a.Email, ""
	}
	if w.Name == "" {
		w.Name = a.UserID
	}
	if user := a.Email; user != "" || a.UserID != "" {
		if user == "" {
			user = a.UserID
		}
		w.Href = s.with("user", user, "application", "", "record", "", "record_id", "", "initiator", "", "q", "", "transaction", "", "limit", "")
	}
	switch a.Initiator {
	case ledger.InitiatorUser:
		w.Class = "user"
	case ledger.InitiatorApplication:
		w.Class, w.Tag, w.Why = "application", "Integration", "Another application, with an account of its own."
	case ledger.InitiatorSystem:
		w.Class, w.Tag, w.Why = "system", "System", "The application did this by itself; no user asked for it."
	case ledger.InitiatorOperator:
		w.Class, w.Tag, w.Why = "operator", "Database operator", "Made in the database directly, past the application."
		if w.Name == "" {
			w.Name = a.DBUser
		}
	case ledger.InitiatorUnattributed:
		w.Class, w.Tag, w.Why = "unattributed", "Unattributed", "No session said who acted. This is not the system: nobody is known."
	default:
		w.Class, w.Tag = "none", "The log itself"
	}
	if w.Name == "" && w.Class == "user" {
		w.Name = "not known"
	}
	w.Name, w.Mail = cut(w.Name, nameLength), cut(w.Mail, nameLength)
	return w
}

// where is application > record > resource > section. Each step leads to all that is known of it.
func where(s *state, e *query.Entry) []crumb {
	var list []crumb
	if r := e.Record; r != nil {
		class := "record"
		if s.filter.RecordID != "" && s.filter.RecordID != r.ID {
			class = "record listed-record" // another one than was asked for
		}
		c := crumb{Text: r.Name, Class: class}
		if c.Text == "" {
			c.Text = r.ID
		}
		if s.filter.RecordID != r.ID { // or it would lead to where we are
			c.Href = recordURL(s, *r)
		}
		list = append(list, crumb{Text: r.Application, Class: "application"}, c)
	} else {
		list = append(list, crumb{Text: "No record", Class: "nothing"})
	}
	if e.Resource != "" {
		list = append(list, crumb{Text: e.Resource, Class: "resource"})
	} else if e.Table != "" {
		list = append(list, crumb{Text: e.Table, Class: "resource"})
	}
	if e.SubResource != "" && e.SubResource != e.Resource && e.SubResource != e.Resource+"s" {
		list = append(list, crumb{Text: e.SubResource, Class: "resource"})
	}
	for i := range list {
		list[i].Text = cut(list[i].Text, nameLength)
	}
	return list
}

// recordURL lists everything about a record, in the range that is being looked at.
func recordURL(s *state, r query.Record) string {
	return s.with("application", r.Application, "record", "", "record_id", r.ID, "resource", "", "action", "", "user", "", "initiator", "", "q", "", "transaction", "", "limit", "")
}
