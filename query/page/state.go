package page

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"casebook.example/audit/query"
)

// everything is what stands in the form for "any": the help page wants an application and a record to be named, and
// naming all of them is a choice that is made, not an omission.
const everything = "*"

const (
	pageLength   = 50
	maxLength    = 200
	defaultRange = 7 // days, with today
)

// state is what a list's URL says.
type state struct {
	values url.Values // as they came, without empty ones
	zone   *time.Location
	filter query.Filter
	page   query.Page
	errs   []query.ParameterError
	asked  bool // anything is asked for; else the page only offers to ask
	open   string
}

// readState reads a list's URL: the parameters of /v1/entries, the entry that stands open, and "*" for any application or
// record. With record_id, record is only what the form shows.
func readState(rawQuery string) *state {
	given, errs := query.Parameters(rawQuery, append([]string{"limit", "cursor", "open"}, query.FilterParameters()...)...)
	s := &state{values: url.Values{}, errs: errs, open: given["open"]}
	for name, value := range given {
		s.values.Set(name, value)
		s.asked = s.asked || name != "tz"
	}
	delete(given, "open")
	for _, name := range []string{"application", "record"} {
		if given[name] == everything {
			delete(given, name)
		}
	}
	if given["record_id"] != "" {
		delete(given, "record")
	}
	if given["limit"] == "" {
		given["limit"] = "50"
	}
	var more []query.ParameterError
	s.filter, more = query.ParseFilter(given)
	s.errs = append(s.errs, more...)
	s.page, more = s.filter.ParsePage(given)
	s.errs = append(s.errs, more...)
	if s.filter.Sequence {
		s.errs = append(s.errs, query.ParameterError{Parameter: "order", Message: "must be newest or oldest here"})
	}
	if s.page.Limit > maxLength {
		s.errs = append(s.errs, query.ParameterError{Parameter: "limit", Message: "is at most 200 here; the API gives up to 1000"})
	}
	s.zone, _ = query.Zone(given["tz"])
	s.asked = s.asked || len(s.errs) > 0
	return s
}

// get is a parameter for the form.
func (s *state) get(name string) string { return s.values.Get(name) }

// wrong is what is wrong with a parameter; "": nothing.
func (s *state) wrong(names ...string) string {
	var list []string
	for _, e := range s.errs {
		if slices.Contains(names, e.Parameter) && !slices.Contains(list, e.Message) {
			list = append(list, e.Message)
		}
	}
	return strings.Join(list, "; ")
}

// with is the URL of this list with some parameters changed, from its first page on; "" removes one.
func (s *state) with(pairs ...string) string {
	v := url.Values{}
	for name, list := range s.values {
		if name != "cursor" && name != "open" {
			v[name] = list
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			v.Del(pairs[i])
		} else {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return "/?" + encode(v)
}

// at is likewise the URL of this very page of the list.
func (s *state) at(pairs ...string) string {
	if cursor := s.get("cursor"); cursor != "" {
		pairs = append([]string{"cursor", cursor}, pairs...)
	}
	return s.with(pairs...)
}

// api is the address of the same query at an endpoint of the API.
func (s *state) api(path string, pairs ...string) string {
	v := url.Values{}
	for _, name := range query.FilterParameters() {
		if value := s.get(name); value != "" && (value != everything || name != "application" && name != "record") {
			v.Set(name, value)
		}
	}
	if v.Has("record_id") {
		v.Del("record")
	}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return path + "?" + encode(v)
}

// encode writes a query string in the order of the form, so that an address can be read.
func encode(v url.Values) string {
	order := append([]string{}, "application", "record", "record_id", "from", "to", "user", "action", "resource", "initiator", "q", "transaction")
	var b strings.Builder
	add := func(name string) {
		for _, value := range v[name] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(value))
		}
	}
	for _, name := range order {
		add(name)
	}
	rest := []string{}
	for name := range v {
		if !slices.Contains(order, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range rest {
		add(name)
	}
	return b.String()
}

// lastDays is a range of days that ends today, as two parameters.
func lastDays(now time.Time, zone *time.Location, days int) (from, to string) {
	today := now.In(zone)
	return today.AddDate(0, 0, 1-days).Format(time.DateOnly), today.Format(time.DateOnly)
}
