package page

import (
	"strings"
	"time"

	"casebook.example/audit/query"
)

// empty says why a list has no entries, and what to do. A blank table would leave open which of these it is.
type empty struct {
	Kind   string // impossible, begun, record, user, access, later, range
	Title  string
	Text   string
	Errors []query.ParameterError
	Links  []link
}

func impossible(s *state) *empty {
	e := &empty{Kind: "impossible", Title: "This filter cannot match anything", Text: "Nothing was looked up. Mend what is marked:"}
	for _, wrong := range s.errs {
		if label, ok := fieldLabels[wrong.Parameter]; ok {
			wrong.Parameter = label
		}
		e.Errors = append(e.Errors, wrong)
	}
	return e
}

// fieldLabels are what the form calls the parameters.
var fieldLabels = map[string]string{
	"": "The address", "application": "Application", "record": "Record", "record_id": "Record id", "from": "From", "to": "To", "user": "User", "action": "Action", "resource": "Resource",
	"initiator": "Done by", "q": "Text in changed values", "transaction": "Transaction", "tz": "Time zone", "order": "Order", "limit": "Entries on a page", "cursor": "The place in the list",
}

// why finds out why nothing was found. records are those that the filter stands for.
func (h *handler) why(r *query.Request, s *state, status *query.Status, records []query.Record) (*empty, error) {
	complete := completeTo(status)
	switch {
	case status.CompleteTo == "":
		return &empty{Kind: "begun", Title: "The log has not begun",
			Text: "No transaction has been stored yet. Either the daemon has just been set up, or it does not reach its source. Whoever runs it can see why with: casebook-audit status"}, nil
	case (s.filter.Record != "" || s.filter.RecordID != "") && len(records) == 0:
		return h.noRecord(r, s)
	case s.filter.User != "":
		users, _, err := h.Service.Users(r.Context(), r.Caller, s.filter.User)
		if err != nil {
			return nil, err
		}
		if e := noUser(s, users); e != nil {
			return e, nil
		}
	}
	if !s.filter.From.IsZero() && s.filter.From.After(complete) {
		e := &empty{Kind: "later", Title: "The log has not come that far",
			Text: "It is complete up to " + complete.In(s.zone).Format("15:04:05 MST on 2 Jan 2006") + ", and the range begins after that. What happens in the range will be listed here once it is stored."}
		e.Links = append(e.Links, link{Text: "Look again", Href: s.with()})
		return e, nil
	}
	applications, err := h.Service.Applications(r.Context(), r.Caller)
	if err != nil {
		return nil, err
	}
	if len(applications) == 0 && !r.Caller.All() {
		return &empty{Kind: "access", Title: "There is nothing here that you may read",
			Text: "You are signed in as “" + r.Caller.Name + "”, for these tenants: " + strings.Join(r.Caller.Tenants, ", ") + ". The log holds no record of theirs. If that is wrong, whoever keeps the tokens file can change it."}, nil
	}
	return h.nothing(s, status), nil
}

// nothing is the ordinary case: the filter is right, and nothing happened.
func (h *handler) nothing(s *state, status *query.Status) *empty {
	e := &empty{Kind: "range", Title: "Nothing happened here", Text: "No entry matches" + between(s) + ". The log is complete for that time, so this is an answer and not a failure."}
	if !s.filter.To.IsZero() && s.filter.To.After(completeTo(status)) {
		e.Text = "No entry matches" + between(s) + ", as far as the log is complete."
	}
	for _, days := range []int{30, 365} {
		from, to := lastDays(time.Now(), s.zone, days)
		name := "Look at the last 30 days"
		if days == 365 {
			name = "Look at the last year"
		}
		if day, err := time.ParseInLocation(time.DateOnly, from, s.zone); err == nil && !s.filter.From.IsZero() && day.Before(s.filter.From) {
			e.Links = append(e.Links, link{Text: name, Href: s.with("from", from, "to", to)})
		}
	}
	if s.filter.Action != "" || s.filter.User != "" || s.filter.Resource != "" || s.filter.Initiator != "" || s.filter.Text != "" {
		e.Links = append(e.Links, link{Text: "Take user, action and further filters away", Href: s.with("user", "", "action", "", "resource", "", "initiator", "", "q", "", "transaction", "")})
	}
	return e
}

func between(s *state) string {
	switch from, to := s.get("from"), s.get("to"); {
	case from != "" && from == to:
		return " on " + from
	case from != "" && to != "":
		return " between " + from + " and " + to
	case from != "":
		return " since " + from
	case to != "":
		return " until " + to
	}
	return ""
}

func (h *handler) noRecord(r *query.Request, s *state) (*empty, error) {
	asked := s.filter.Record
	if asked == "" {
		asked = s.filter.RecordID
	}
	in := ""
	if s.filter.Application != "" {
		in = " in " + s.filter.Application
	}
	e := &empty{Kind: "record", Title: "No record is known by that name", Text: "Nothing" + in + " has ever been called “" + asked + "”. Names count in full, as they are now or as they ever were."}
	if !r.Caller.All() {
		e.Text += " A record that is not yours to read is not found either."
	}
	if s.filter.RecordID != "" {
		e.Title, e.Text = "No record has that id", "Nothing"+in+" has the id “"+asked+"”."
	}
	for _, application := range []string{s.filter.Application, ""} {
		list, _, err := h.Service.Records(r.Context(), r.Caller, asked, application)
		if err != nil {
			return nil, err
		}
		for _, record := range list[:min(8, len(list))] {
			e.Links = append(e.Links, link{Text: record.Name, Href: recordURL(s, record), About: record.Application + " · " + record.Type + " · " + record.ID})
		}
		if len(list) > 0 || application == "" {
			break
		}
	}
	if len(e.Links) > 0 {
		e.Text += " Did you mean one of these?"
	}
	return e, nil
}

// noUser says that nobody has that address; nil: somebody has.
func noUser(s *state, users []query.User) *empty {
	e := &empty{Kind: "user", Title: "No user is known by that name", Text: "The log knows nobody with the address, name or id “" + s.filter.User + "”."}
	seen := map[string]bool{}
	for _, u := range users {
		if strings.EqualFold(u.Email, s.filter.User) || strings.EqualFold(u.Name, s.filter.User) || u.ID == s.filter.User {
			return nil
		}
		key := u.Email
		if key == "" {
			key = u.ID
		}
		if !seen[key] && len(e.Links) < 8 {
			seen[key] = true
			e.Links = append(e.Links, link{Text: strings.TrimSpace(u.Name + " " + bracket(u.Email)), Href: s.with("user", key), About: u.ID})
		}
	}
	if len(e.Links) > 0 {
		e.Text += " Did you mean one of these?"
	}
	return e
}
