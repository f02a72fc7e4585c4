package mapping

import (
	"bytes"
	"encoding/json"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

const (
	stampPrefix = "casebook.audit"
	bemiPrefix  = "_bemi" // of the messages that Bemi's libraries write: the application's context as JSON
)

// stampVariables are what may name the user: the session variables that the stamp carries, and Bemi's message.
var stampVariables = []string{
	"audit.user_id", "audit.user_unique_name", "app.current_user_id", "request.jwt.claims", "hasura.user",
	"pghistory.context_metadata", "logidze.meta", bemiPrefix,
}

// stamp is what a session said of itself, as the trigger wrote it into the WAL.
type stamp struct {
	V       int               `json:"v"`
	Context map[string]string `json:"ctx"`
	Role    string            `json:"role"`
	App     string            `json:"app"`
	Addr    *string           `json:"addr"`
	PID     uint32            `json:"pid"`
}

// actor is who made the row changes that follow a stamp. It is made once a stamp, not once a row.
type actor struct {
	initiator string
	userID    string
	email     string
	name      string
	variable  string // that named the user
	value     string // what stood in it
	role      string
	app       string
	addr      string
	pid       uint32
	remark    string
}

// unattributed stands before the first stamp of a transaction.
func unattributed() actor { return actor{initiator: ledger.InitiatorUnattributed} }

// message takes a logical message in: a stamp, another one that names the user, or the news that somebody looked at a row,
// which is an entry. Others are not ours.
func (m *Mapper) message(w *work, c *capture.Change) *ledger.Entry {
	switch c.Prefix {
	case ViewedPrefix:
		return m.viewed(w, c.Content)
	case stampPrefix:
		s, ok := m.readStamp(c.Content)
		if !ok {
			w.actor = actor{initiator: ledger.InitiatorUnattributed, remark: "the stamp of this change cannot be read"}
			return nil
		}
		w.stamp = s
	case bemiPrefix:
		w.bemi = string(c.Content)
	default:
		return nil
	}
	w.actor = m.actorOf(w, &w.stamp)
	if c.Prefix == stampPrefix {
		m.backends.saw(w.actor.userID, w.actor.pid, w.tx.CommitTime)
	}
	return nil
}

// actorOf says who a session is by its stamp.
func (m *Mapper) actorOf(w *work, s *stamp) actor {
	a := actor{initiator: ledger.InitiatorOperator, role: s.Role, app: s.App, pid: s.PID}
	if s.Addr != nil {
		a.addr = *s.Addr
	}
	for _, rule := range m.rules.context {
		id := s.Context[rule.variable]
		if rule.variable == bemiPrefix {
			id = w.bemi
		}
		if id != "" && rule.path != "" {
			id = jsonPath(id, rule.path)
		}
		if id != "" {
			a.variable, a.value, a.userID = rule.variable, id, id
			break
		}
	}
	switch a.userID {
	case "":
		return a
	case "-1", "UNKNOWN":
		a.initiator, a.userID = ledger.InitiatorUnattributed, ""
		a.remark = a.variable + " says " + a.value + ": the application did not know the user"
		return a
	}
	a.initiator = ledger.InitiatorUser
	u := m.rules.users
	if u == nil {
		return a
	}
	r := m.user(w, a.userID)
	if r == nil {
		a.remark = "user " + a.userID + " is not in the directory"
		return a
	}
	img := r.at(w.commit, before)
	a.userID, a.email, a.name = r.key, img.text(u.email), img.text(u.name)
	if initiator := u.initiators[img.text(u.kind)]; initiator != "" {
		a.initiator = initiator
	}
	return a
}

// user finds a user by key, or by an address that one user alone has.
func (m *Mapper) user(w *work, id string) *row {
	u := m.rules.users
	r := m.dir.find(w, u.t, id)
	if r == nil || r.known || u.byEmail == nil {
		return seen(r)
	}
	l := m.dir.find(w, u.byEmail, id)
	if l == nil {
		return nil
	}
	keys := splitKeys(l.at(w.commit, before).text(1))
	if len(keys) != 1 {
		return nil
	}
	return seen(m.dir.find(w, u.t, keys[0]))
}

func seen(r *row) *row {
	if r == nil || !r.known {
		return nil
	}
	return r
}

// readStamp reads the JSON. A session that works for one user writes the same stamp in each transaction, but for the
// number of the transaction at its end; so what was read once is kept.
func (m *Mapper) readStamp(content []byte) (stamp, bool) {
	same := content
	if end := bytes.LastIndex(content, []byte(`"xid"`)); end >= 0 && len(bytes.Trim(content[end+5:], ` :"}0123456789`)) == 0 {
		same = content[:end]
	}
	if s, ok := m.stamps[string(same)]; ok {
		return s, true
	}
	var s stamp
	if json.Unmarshal(content, &s) != nil || s.V != 1 {
		return stamp{}, false
	}
	if len(m.stamps) >= maxStamps {
		clear(m.stamps)
	}
	if len(same) < len(content) && len(same) < 4<<10 {
		m.stamps[string(same)] = s
	}
	return s, true
}

const maxStamps = 2000

// jsonPath looks for a text or a number in JSON. A step of the path may itself contain dots, as claims do: the longest
// key that exists is taken. "" when nothing is there.
func jsonPath(text, path string) string {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return ""
	}
	return walkPath(v, path)
}

func walkPath(v any, path string) string {
	if path == "" {
		switch v := v.(type) {
		case string:
			return v
		case json.Number:
			return v.String()
		}
		return ""
	}
	object, ok := v.(map[string]any)
	if !ok {
		return ""
	}
	for key := path; ; {
		if next, ok := object[key]; ok {
			return walkPath(next, strings.TrimPrefix(path[len(key):], "."))
		}
		dot := strings.LastIndexByte(key, '.')
		if dot < 0 {
			return ""
		}
		key = key[:dot]
	}
}
