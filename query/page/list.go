package page

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
)

// listView is the page at /.
type listView struct {
	base
	Form     form
	Start    bool   // nothing has been asked yet
	Starters []link // what one may ask
	Heading  string
	About    string // under the heading: what kind of record it is, and its id
	Notices  []notice
	Fresh    freshness
	Days     []day
	Shown    int
	From     int    // entries before these, when leafing; 0: the first page
	Older    string // URL of the next page; "": there is none
	First    string // URL of the first page; "": this is it
	OlderIs  string // what the next page is called
	CSV      string
	NDJSON   string
	Zone     zoneView
	Empty    *empty
	Filters  []setting // for print, and to take one away
}

type link struct{ Text, Href, About string }

type notice struct {
	Class, Text string
	Links       []link
}

// setting is a filter that is set. The first ones stand in the form for all to see; paper has no form.
type setting struct {
	Name, Value, Without string
	InForm               bool
}

// freshness says how far the log reaches.
type freshness struct {
	Text, ISO, Note string
	Behind          bool
}

// zoneView is the zone that times are told in, and how to change it.
type zoneView struct {
	Name, Param, UTC string
	To               string // URL with {tz} for the browser's own zone
}

// day is what happened on one day of the zone.
type day struct {
	Name, ISO string
	Turn      bool // the clocks change on that day, so each time says its zone
	Rows      []row
}

// form is what the filter bar shows.
type form struct {
	Application, Record, RecordID, From, To, User, Action, Resource, Initiator, Text, Transaction, Zone, Limit string
	Oldest                                                                                                     bool
	More                                                                                                       bool // the further filters stand open
	Applications, Resources                                                                                    []string
	Actions                                                                                                    []query.Action
	Initiators                                                                                                 []query.Action
	Ranges                                                                                                     []link
	Errors                                                                                                     map[string]string
	Clear                                                                                                      string
}

// admitted lets a known caller in and records the access; false: it has been answered, with err.
func (h *handler) admitted(w http.ResponseWriter, r *query.Request, endpoint string) (ok bool, err error) {
	access := query.Access{Endpoint: endpoint, Query: r.URL.RawQuery}
	if r.Caller == nil {
		if r.Header.Get("Sec-Fetch-Site") != "cross-site" { // or it asks once more, with its cookie
			access.Refused = http.StatusText(http.StatusUnauthorized)
			if err := h.Service.Record(r.Context(), access); err != nil {
				return false, unrecorded()
			}
		}
		return false, h.askToSignIn(w, r)
	}
	access.Caller, access.Tenants = r.Caller.Name, r.Caller.Tenants
	if err := h.Service.Record(r.Context(), access); err != nil {
		w.Header().Set("Retry-After", "10")
		return false, unrecorded()
	}
	return true, nil
}

func unrecorded() error {
	return query.NewProblem(http.StatusServiceUnavailable, "Each look at the log is itself recorded. That is not possible right now, so nothing is shown. Try again in a moment.")
}

func (h *handler) list(w http.ResponseWriter, r *query.Request) error {
	s := readState(r.URL.RawQuery)
	if !s.asked && r.Caller == nil {
		return h.askToSignIn(w, r) // nobody asked for an entry: there is nothing to record
	}
	if s.asked {
		if ok, err := h.admitted(w, r, "page"); !ok {
			return err
		}
	}
	if other, err := h.otherName(r, s); err != nil || other {
		if other {
			http.Redirect(w, r.Request, s.with("record_id", ""), http.StatusSeeOther)
		}
		return err
	}
	status, err := h.Service.Status(r.Context(), r.Caller)
	if err != nil {
		return err
	}
	now := time.Now()
	view := &listView{base: newBase(r, "Audit log"), Start: !s.asked, Heading: "Audit log", Fresh: fresh(status, s.zone), Zone: zoneOf(s)}
	if view.Form, err = h.form(r.Context(), r.Caller, s, status, now); err != nil {
		return err
	}
	if view.Start {
		view.Starters = starters(s, now)
		return h.render(w, http.StatusOK, "list", view)
	}
	if len(s.errs) > 0 {
		view.Empty = impossible(s)
		return h.render(w, http.StatusBadRequest, "list", view)
	}
	list, err := h.Service.List(r.Context(), r.Caller, s.filter, s.page)
	if p := problemOf(err); p != nil && p.Status == http.StatusBadRequest {
		s.errs = append(s.errs, p.Errors...)
		view.Form.Errors = s.errors()
		view.Empty = impossible(s)
		return h.render(w, http.StatusBadRequest, "list", view)
	}
	if err != nil {
		return err
	}
	if err := h.fill(r, view, s, status, list); err != nil {
		return err
	}
	return h.render(w, http.StatusOK, "list", view)
}

// otherName says that the record's name in the form is none that the record of the form's id ever had. Then somebody without
// a script took another record, and the name counts.
func (h *handler) otherName(r *query.Request, s *state) (bool, error) {
	name, id := s.get("record"), s.get("record_id")
	if name == "" || id == "" || name == id || len(s.errs) > 0 {
		return false, nil
	}
	if name == everything {
		return true, nil
	}
	records, err := h.Service.Match(r.Context(), r.Caller, query.Filter{Record: name, RecordID: id})
	if err != nil || len(records) > 0 {
		return false, err
	}
	records, err = h.Service.Match(r.Context(), r.Caller, query.Filter{RecordID: id})
	return len(records) > 0, err // an id that nobody knows is told as such
}

// fill puts the entries into the view, or says why there are none.
func (h *handler) fill(r *query.Request, view *listView, s *state, status *query.Status, list *query.List) error {
	records, err := h.named(r, s)
	if err != nil {
		return err
	}
	view.head(s, records, list)
	view.Shown = len(list.Entries)
	view.CSV, view.NDJSON = s.api("/v1/export", "format", "csv"), s.api("/v1/export", "format", "ndjson")
	if view.Fresh.Behind && (s.filter.To.IsZero() || s.filter.To.After(completeTo(status))) {
		view.Notices = append(view.Notices, notice{Class: "behind", Text: "The log is behind: what happened after " + view.Fresh.Text + " is not in it yet."})
	}
	if s.get("cursor") != "" {
		view.First = s.with()
	}
	if list.Next != "" {
		view.Older, view.OlderIs = s.with("cursor", list.Next), "Older entries"
		if s.filter.Oldest {
			view.OlderIs = "Newer entries"
		}
	}
	if len(list.Entries) == 0 {
		view.Empty, err = h.why(r, s, status, records)
		return err
	}
	for _, e := range list.Entries {
		row, err := h.row(r, s, e)
		if err != nil {
			return err
		}
		at := row.at
		name := at.Format("Monday, 2 January 2006")
		if n := len(view.Days); n == 0 || view.Days[n-1].Name != name {
			view.Days = append(view.Days, day{Name: name, ISO: at.Format(time.DateOnly), Turn: turns(at)})
		}
		d := &view.Days[len(view.Days)-1]
		row.SayZone = d.Turn
		d.Rows = append(d.Rows, row)
	}
	return nil
}

// named gives the records that the filter stands for.
func (h *handler) named(r *query.Request, s *state) ([]query.Record, error) {
	if s.filter.Record == "" && s.filter.RecordID == "" {
		return nil, nil
	}
	return h.Service.Match(r.Context(), r.Caller, s.filter)
}

// head names the record that the list is about, or the records that it may be about.
func (v *listView) head(s *state, records []query.Record, list *query.List) {
	ids := map[string]bool{}
	for _, record := range records {
		ids[record.ID] = true
	}
	switch {
	case len(ids) == 1:
		v.Heading = latestName(records[0], s, list)
		if v.Form.Record == v.Form.RecordID {
			v.Form.Record = v.Heading
		}
		v.Title = plain(v.Heading) + " – Audit log"
		v.About = records[0].Application + " · " + records[0].Type + " · " + records[0].ID
	case len(ids) > 1:
		n := notice{Text: strconv.Itoa(len(ids)) + " records have been called “" + s.filter.Record + "”. All of them are listed. Which one is meant?"}
		for _, record := range records {
			n.Links = append(n.Links, link{
				Text: record.Name, About: record.Application + " · " + record.Type + " · " + record.ID,
				Href: s.with("application", record.Application, "record", "", "record_id", record.ID),
			})
		}
		v.Notices = append(v.Notices, n)
	}
	inForm := []string{"application", "from", "to", "user", "action"}
	add := func(name, value string, parameters ...string) {
		if value == "" {
			return
		}
		pairs := []string{}
		for _, p := range parameters {
			pairs = append(pairs, p, "")
		}
		v.Filters = append(v.Filters, setting{name, value, s.with(pairs...), len(parameters) > 1 || slices.Contains(inForm, parameters[0])})
	}
	record := s.filter.Record
	if s.filter.RecordID != "" {
		record = v.Heading
	}
	add("Application", s.filter.Application, "application")
	add("Record", record, "record", "record_id")
	add("From", s.get("from"), "from")
	add("To", s.get("to"), "to")
	add("User", s.filter.User, "user")
	add("Action", actionLabel(s.filter.Action), "action")
	add("Resource", s.filter.Resource, "resource")
	add("Done by", initiatorLabel(s.filter.Initiator), "initiator")
	add("Text in values", s.filter.Text, "q")
	add("Transaction", s.filter.Transaction, "transaction")
}

// latestName is what a record was called in the latest of the entries, or else one of its names.
func latestName(r query.Record, s *state, list *query.List) string {
	name := r.Name
	for _, e := range list.Entries {
		if e.Record != nil && e.Record.ID == r.ID && e.Record.Name != "" {
			if name = e.Record.Name; !s.filter.Oldest {
				return name
			}
		}
	}
	return name
}

func (h *handler) form(ctx context.Context, caller *query.Caller, s *state, status *query.Status, now time.Time) (form, error) {
	applications, err := h.Service.Applications(ctx, caller)
	if err != nil {
		return form{}, err
	}
	known, resources := h.Words()
	f := form{
		Application: s.get("application"), Record: s.get("record"), RecordID: s.get("record_id"), From: s.get("from"), To: s.get("to"), User: s.get("user"),
		Action: s.get("action"), Resource: s.get("resource"), Initiator: s.get("initiator"), Text: s.get("q"), Transaction: s.get("transaction"),
		Zone: s.get("tz"), Limit: s.get("limit"), Oldest: s.filter.Oldest, Actions: query.Actions(), Initiators: initiators(),
		Applications: union(known, applications, s.filter.Application), Resources: union(resources, nil, s.filter.Resource), Errors: s.errors(), Clear: "/",
	}
	if tz := s.get("tz"); tz != "" {
		f.Clear = "/?" + encode(url.Values{"tz": {tz}})
	}
	f.More = f.Resource != "" || f.Initiator != "" || f.Text != "" || f.Transaction != "" || f.Oldest
	if s.asked { // what a link left out is a choice that the form shows
		if f.Application == "" {
			f.Application = everything
		}
		if f.Record == "" && f.RecordID == "" {
			f.Record = everything
		}
		if f.Record == "" {
			f.Record = f.RecordID
		}
	} else {
		f.From, f.To = lastDays(now, s.zone, defaultRange)
	}
	if s.asked {
		for _, days := range []int{1, 7, 30, 90} {
			from, to := lastDays(now, s.zone, days)
			text := strconv.Itoa(days) + " days"
			if days == 1 {
				text = "Today"
			}
			f.Ranges = append(f.Ranges, link{Text: text, Href: s.with("from", from, "to", to)})
		}
		if begun, err := time.Parse(time.RFC3339Nano, status.Since); err == nil {
			_, to := lastDays(now, s.zone, 1)
			f.Ranges = append(f.Ranges, link{Text: "Whole log", Href: s.with("from", begun.In(s.zone).Format(time.DateOnly), "to", to)})
		}
	}
	return f, nil
}

// errors are what is wrong, by the name of the form's field.
func (s *state) errors() map[string]string {
	list := map[string]string{}
	for _, field := range [][]string{
		{"application"}, {"record", "record_id"}, {"from"}, {"to"}, {"user"}, {"action"}, {"resource"}, {"initiator"}, {"q"}, {"transaction"}, {"tz"},
	} {
		if text := s.wrong(field...); text != "" {
			list[field[0]] = text
		}
	}
	return list
}

// union keeps the order of the first list, and adds what the others know besides.
func union(first, second []string, one string) []string {
	list := slices.Clone(first)
	for _, s := range append(slices.Clone(second), one) {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// initiators are the values of the filter "Done by", with words.
func initiators() []query.Action {
	return []query.Action{
		{Action: ledger.InitiatorUser, Label: "Users"}, {Action: ledger.InitiatorApplication, Label: "Integrations"}, {Action: ledger.InitiatorSystem, Label: "The system"},
		{Action: ledger.InitiatorOperator, Label: "Database operators"}, {Action: ledger.InitiatorUnattributed, Label: "Nobody known (unattributed)"},
	}
}

func initiatorLabel(initiator string) string { return labelOf(initiators(), initiator) }

func actionLabel(action string) string { return labelOf(query.Actions(), action) }

func labelOf(list []query.Action, value string) string {
	for _, a := range list {
		if a.Action == value {
			return a.Label
		}
	}
	return value
}

// starters are questions that an administrator comes with.
func starters(s *state, now time.Time) []link {
	from, to := lastDays(now, s.zone, defaultRange)
	ask := func(pairs ...string) string {
		return s.with(append([]string{"application", everything, "record", everything, "from", from, "to", to}, pairs...)...)
	}
	return []link{
		{"Everything of the last 7 days", ask(), "Each change of each record, newest first."},
		{"Deletions", ask("action", ledger.ActionDelete), "What was removed, and by whom."},
		{"Changes by the system", ask("initiator", ledger.InitiatorSystem), "What the application did by itself, such as a record's e-mail address."},
		{"Direct changes in the database", ask("initiator", ledger.InitiatorOperator), "Made at a prompt or by a script, past the application."},
		{"Changes that nobody is named for", ask("initiator", ledger.InitiatorUnattributed), "No session said who acted. Each one deserves a question."},
	}
}

func completeTo(status *query.Status) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, status.CompleteTo)
	return t
}

// behindAfter is when a log that lags is said to lag.
const behindAfter = 60 // seconds

func fresh(status *query.Status, zone *time.Location) freshness {
	if status.CompleteTo == "" {
		return freshness{Note: "the log has not begun", Behind: true}
	}
	at := completeTo(status).In(zone)
	f := freshness{ISO: status.CompleteTo, Text: at.Format("15:04:05 MST, 2 Jan 2006")}
	if status.LagSeconds >= behindAfter {
		f.Behind, f.Note = true, "behind by "+duration(time.Duration(status.LagSeconds)*time.Second)
	}
	return f
}

// duration tells a time in its largest unit.
func duration(d time.Duration) string {
	count := func(n int, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return strconv.Itoa(n) + " " + unit + "s"
	}
	switch {
	case d < time.Minute:
		return count(int(d.Seconds()), "second")
	case d < time.Hour:
		return count(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return count(int(d.Hours()), "hour")
	}
	return count(int(d.Hours()/24), "day")
}

func zoneOf(s *state) zoneView {
	z := zoneView{Name: s.zone.String(), Param: s.get("tz"), UTC: s.at("tz", "")}
	z.To = s.at("tz", "ZONE")
	return z
}

// turns says that the offset of the zone changes on that day.
func turns(at time.Time) bool {
	start := query.DayStart(at, at.Location())
	_, before := start.Add(-time.Second).Zone()
	_, after := query.DayStart(at.AddDate(0, 0, 1), at.Location()).Add(time.Hour).Zone()
	return before != after
}
