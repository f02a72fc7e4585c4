package query

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxValue     = 500 // characters of a parameter
)

// Filter says which entries are asked for. Empty fields don't filter.
type Filter struct {
	Application string
	Record      string // any name that the record ever had, whatever its case
	RecordID    string
	From, To    time.Time // of the commit; From included, To not
	User        string    // e-mail or name, whatever its case, or id
	Action      string
	Resource    string
	Initiator   string
	Text        string // part of a changed value, whatever its case; only within a record
	Transaction string // of the source: commit LSN, or number
	Oldest      bool   // oldest first; newest first otherwise
	Sequence    bool   // in the order of the chain: nothing that is stored later comes before what has been given
}

// FilterParameters are those that pages and exports share.
func FilterParameters() []string {
	return []string{"application", "record", "record_id", "from", "to", "user", "action", "resource", "initiator", "q", "transaction", "tz", "order"}
}

// Parameters reads a query string strictly: each parameter is known, given once, valid text and not absurdly long. What
// cannot be read is refused, never dropped: that would answer another question.
func Parameters(query string, known ...string) (map[string]string, []ParameterError) {
	got := map[string]string{}
	var errs []ParameterError
	values, err := url.ParseQuery(query)
	if err != nil {
		errs = append(errs, ParameterError{"", "the query string holds a semicolon or a % without two hexadecimal digits: write them as %3B and %25"})
	}
	for name, list := range values {
		switch {
		case !slices.Contains(known, name):
			errs = append(errs, ParameterError{printable(name), "there is no such parameter; " + knownParameters(known)})
		case len(list) > 1:
			errs = append(errs, ParameterError{name, "given more than once"})
		case !plainText(list[0]):
			errs = append(errs, ParameterError{name, "holds control characters or is not UTF-8"})
		case utf8.RuneCountInString(list[0]) > maxValue:
			errs = append(errs, ParameterError{name, fmt.Sprintf("longer than %d characters", maxValue)})
		case list[0] != "":
			got[name] = list[0]
		}
	}
	slices.SortFunc(errs, func(a, b ParameterError) int { return strings.Compare(a.Parameter, b.Parameter) })
	return got, errs
}

func knownParameters(known []string) string {
	if len(known) == 0 {
		return "this endpoint takes none"
	}
	return "known are " + strings.Join(known, ", ")
}

func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	return s[:min(len(s), 40)]
}

// ParseFilter reads the filter's parameters. A date without a time is a whole day, of "to" the whole day too, in the zone
// that tz names (IANA), or else in UTC.
func ParseFilter(p map[string]string) (Filter, []ParameterError) {
	f := Filter{
		Application: p["application"], Record: p["record"], RecordID: p["record_id"], User: p["user"], Action: p["action"],
		Resource: p["resource"], Initiator: p["initiator"], Text: p["q"], Transaction: p["transaction"],
	}
	var errs []ParameterError
	zone, err := Zone(p["tz"])
	if err != nil {
		errs = append(errs, ParameterError{"tz", err.Error()})
	}
	moment := func(name string, endOfDay bool) time.Time {
		text := p[name]
		if text == "" {
			return time.Time{}
		}
		if t, err := time.Parse(time.DateOnly, text); err == nil && t.Year() >= 1 {
			if endOfDay {
				t = t.AddDate(0, 0, 1)
			}
			return DayStart(t, zone)
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || t.Year() < 1 || t.Year() > 9999 {
			errs = append(errs, ParameterError{name, "neither a date like 2026-03-31 nor a time like 2026-03-31T14:02:00Z"})
			return time.Time{}
		}
		if endOfDay {
			t = t.Add(time.Microsecond) // a moment is included
		}
		return t
	}
	f.From, f.To = moment("from", false), moment("to", true)
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		errs = append(errs, ParameterError{"to", "is before from"})
	}
	switch f.Initiator {
	case "", ledger.InitiatorUser, ledger.InitiatorApplication, ledger.InitiatorSystem, ledger.InitiatorOperator, ledger.InitiatorUnattributed:
	default:
		errs = append(errs, ParameterError{"initiator", "must be user, application, system, operator or unattributed"})
	}
	switch p["order"] {
	case "", "newest":
	case "oldest":
		f.Oldest = true
	case "seq":
		f.Sequence = true
	default:
		errs = append(errs, ParameterError{"order", "must be newest, oldest or seq"})
	}
	if f.Record != "" && f.RecordID != "" {
		errs = append(errs, ParameterError{"record", "give record or record_id, not both"})
	}
	if f.Text != "" && f.Record == "" && f.RecordID == "" {
		errs = append(errs, ParameterError{"q", "looks through the changed values of one record: give record or record_id too"})
	}
	if f.Transaction != "" && transactionColumn(f.Transaction) == "" {
		errs = append(errs, ParameterError{"transaction", "neither a commit LSN like 0/51CBEE8 nor a transaction number"})
	}
	return f, errs
}

// transactionColumn is the comparison that finds a transaction of the source by its commit LSN or by its number; "": text
// that is neither.
func transactionColumn(text string) string {
	high, low, lsn := strings.Cut(text, "/")
	if lsn {
		_, err1 := strconv.ParseUint(high, 16, 32)
		_, err2 := strconv.ParseUint(low, 16, 32)
		if err1 != nil || err2 != nil {
			return ""
		}
		return "e.commit_lsn = %s::text::pg_lsn"
	}
	if _, err := strconv.ParseUint(text, 10, 32); err != nil {
		return ""
	}
	return "e.xid = %s::text::bigint"
}

// Page is where a page begins and how long it is. Limit 0 is all of it.
type Page struct {
	After *Place
	Limit int
}

// Place is an entry's place in the order of time.
type Place struct {
	CommittedAt int64  `json:"t"` // microseconds
	Seq         uint64 `json:"s"`
}

// The years 1 to 9999 in microseconds: what a cursor of ours may hold, and Postgres can compare.
var (
	firstMoment = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	lastMoment  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// cursor is a Place on its way to the client and back. It belongs to one filter.
type cursor struct {
	Version int `json:"v"`
	Place
	Filter string `json:"f"`
}

func (f Filter) digest() string {
	text := fmt.Sprintf("%q", []string{
		f.Application, f.Record, f.RecordID, f.User, f.Action, f.Resource, f.Initiator,
		f.From.UTC().String(), f.To.UTC().String(), strconv.FormatBool(f.Oldest), f.Text, f.Transaction, strconv.FormatBool(f.Sequence),
	})
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

func (f Filter) cursor(p Place) string {
	text, _ := json.Marshal(cursor{1, p, f.digest()}) // numbers and a string
	return base64.RawURLEncoding.EncodeToString(text)
}

// ParsePage reads limit and cursor. A cursor belongs to one filter.
func (f Filter) ParsePage(p map[string]string) (Page, []ParameterError) {
	page := Page{Limit: defaultLimit}
	var errs []ParameterError
	if text := p["limit"]; text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			errs = append(errs, ParameterError{"limit", fmt.Sprintf("must be a number from 1 to %d", maxLimit)})
		} else {
			page.Limit = n
		}
	}
	if text := p["cursor"]; text != "" {
		var c cursor
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(raw, &c)
		}
		switch {
		case err != nil || c.Version != 1 || c.CommittedAt < firstMoment || c.CommittedAt > lastMoment || c.Seq > math.MaxInt64:
			errs = append(errs, ParameterError{"cursor", "is not one that this endpoint gave"})
		case c.Filter != f.digest():
			errs = append(errs, ParameterError{"cursor", "belongs to a query with other filters: begin again without it"})
		default:
			page.After = &c.Place
		}
	}
	return page, errs
}

// kinds that a listing shows: changes, truncates and gaps. Transaction boundaries are in the chain for verifiers; the log
// of accesses shows when a resource or an action is asked for.
const listedKinds = "e.kind IN (1, 2, 10, 15) AND (e.kind <> 15 OR e.action = 'view')"

// scope is what every statement of a request is bound to.
type scope struct {
	chain   int32
	tenants []string // nil: every tenant
}

// statement builds the one query of pages and exports. records and users are the ids that Record and User stand for.
func (f Filter) statement(s scope, records, users []string, page Page) (string, []any) {
	b := &builder{}
	direction, compare := "DESC", "<"
	if f.Oldest || f.Sequence {
		direction, compare = "ASC", ">"
	}
	common := []string{"e.chain = " + b.arg(s.chain)}
	if s.tenants != nil {
		common = append(common, "e.tenant_id = ANY("+b.arg(s.tenants)+")")
	}
	if f.Resource == "" && f.Action == "" {
		common = append(common, listedKinds)
	} else {
		common = append(common, "e.kind NOT IN (3, 4, 12)") // shapes, ends of transactions, the directory: for verifiers
	}
	if !f.From.IsZero() {
		common = append(common, "e.committed_at >= "+b.arg(f.From))
	}
	if !f.To.IsZero() {
		common = append(common, "e.committed_at < "+b.arg(f.To))
	}
	equal := func(column, value string) {
		if value != "" {
			common = append(common, "e."+column+" = "+b.arg(value))
		}
	}
	equal("action", f.Action)
	equal("resource", f.Resource)
	equal("initiator", f.Initiator)
	if f.Transaction != "" {
		common = append(common, fmt.Sprintf(transactionColumn(f.Transaction), b.arg(f.Transaction)))
	}
	if f.Text != "" {
		common = append(common, "EXISTS (SELECT FROM unnest(e.paths, e.vals) AS v(path, val) WHERE lower(v.val) LIKE lower("+b.arg(containing(f.Text))+
			") AND (v.path LIKE 'old%' OR v.path LIKE 'new%'))")
	}
	switch {
	case f.User == "":
	case len(users) == 1:
		common = append(common, "e.user_id = "+b.arg(users[0]))
	case len(users) > 1:
		common = append(common, "e.user_id = ANY("+b.arg(users)+")")
	default: // nobody of that address is known to the directory: the entries themselves may name it
		common = append(common, "(e.user_id = "+b.arg(f.User)+" OR lower(e.user_email) = lower("+b.arg(f.User)+"))")
	}
	switch {
	case page.After == nil:
	case f.Sequence:
		common = append(common, "e.seq > "+b.arg(int64(page.After.Seq)))
	default:
		common = append(common, fmt.Sprintf("(e.committed_at, e.seq) %s (%s, %s)", compare, b.arg(time.UnixMicro(page.After.CommittedAt)), b.arg(int64(page.After.Seq))))
	}
	where := strings.Join(common, " AND ")
	place := func(alias string) string {
		if f.Sequence {
			return alias + "seq"
		}
		return alias + "committed_at, " + alias + "seq"
	}
	order := strings.ReplaceAll(place(""), ",", " "+direction+",") + " " + direction
	limit := ""
	if page.Limit > 0 {
		limit = " LIMIT " + strconv.Itoa(page.Limit)
	}
	application := func(alias string) string {
		if f.Application == "" {
			return ""
		}
		return " AND " + alias + ".application = " + b.arg(f.Application)
	}
	if f.Record == "" && f.RecordID == "" {
		return "SELECT " + entryColumns("e") + " FROM audit.entry e WHERE " + where + application("e") + " ORDER BY " + order + limit, b.args
	}

	// A record lists its own entries and those that are also under it.
	one := func(column string) string {
		if len(records) == 1 {
			return column + " = " + b.arg(records[0])
		}
		return column + " = ANY(" + b.arg(records) + ")"
	}
	own := "SELECT " + entryColumns("e") + " FROM audit.entry e WHERE " + one("e.record_id") + " AND " + where + application("e") + " ORDER BY " + order + limit
	bound := ""
	if s.tenants != nil {
		bound = " AND a.tenant_id = ANY(" + b.arg(s.tenants) + ")"
	}
	under := "SELECT DISTINCT ON (" + place("a.") + ") " + entryColumns("e") +
		" FROM audit.entry_also a JOIN audit.entry e ON e.chain = a.chain AND e.seq = a.seq AND e.committed_at = a.committed_at" +
		" WHERE " + one("a.record_id") + bound + application("a") + " AND " + strings.NewReplacer("e.committed_at", "a.committed_at", "e.seq", "a.seq").Replace(where) +
		" ORDER BY " + strings.ReplaceAll(place("a."), ",", " "+direction+",") + " " + direction + limit
	return "SELECT DISTINCT ON (" + place("") + ") * FROM ((" + own + ") UNION ALL (" + under + ")) u ORDER BY " + order + limit, b.args
}

// builder collects the arguments of a statement.
type builder struct{ args []any }

func (b *builder) arg(v any) string {
	b.args = append(b.args, v)
	return "$" + strconv.Itoa(len(b.args))
}

// recordIDs gives the records that f means. A name is any that the record ever had.
func (f Filter) recordIDs(ctx context.Context, tx pgx.Tx, s scope) ([]string, error) {
	if f.RecordID != "" {
		return []string{f.RecordID}, nil
	}
	if f.Record == "" {
		return nil, nil
	}
	b := &builder{}
	return named(ctx, tx, ErrManyRecords, "SELECT DISTINCT record_id FROM "+f.recordsNamed(b, s), b)
}

// recordsNamed is the function of the audit database that knows the records of a name.
func (f Filter) recordsNamed(b *builder, s scope) string {
	return "audit.records_named(" + strings.Join([]string{b.arg(s.chain), b.arg(s.tenants), b.arg(orNull(f.Application)), b.arg(f.Record)}, ", ") + ")"
}

// userIDs gives the users that f means, by id, or by any address or name that a user ever had.
func (f Filter) userIDs(ctx context.Context, tx pgx.Tx, s scope) ([]string, error) {
	if f.User == "" {
		return nil, nil
	}
	b := &builder{}
	where := "chain = " + b.arg(s.chain) + " AND (lower(email) = lower(" + b.arg(f.User) + ") OR lower(name) = lower(" + b.arg(f.User) + ") OR user_id = " + b.arg(f.User) + ")"
	if s.tenants != nil {
		where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
	}
	return named(ctx, tx, ErrManyUsers, "SELECT DISTINCT user_id FROM audit.user_name WHERE "+where, b)
}

// A name that stands for more than maxNamed records or users is refused: a part of them would look like all.
const maxNamed = 1000

var (
	ErrManyRecords = errors.New("more than 1000 records have that name: name the application too, or give the record's id")
	ErrManyUsers   = errors.New("more than 1000 users have that address or name: give the user's id")
)

// Match gives the records that Record and RecordID stand for, at most 20, each by one of its names.
func (h *Service) Match(ctx context.Context, caller *Caller, f Filter) (list []Record, err error) {
	list, _, err = suggest(ctx, h, caller, func(b *builder, s scope) string {
		if f.Record != "" {
			where := " WHERE true"
			if f.RecordID != "" {
				where = " WHERE record_id = " + b.arg(f.RecordID)
			}
			return "SELECT DISTINCT ON (application, record_id) * FROM " + f.recordsNamed(b, s) + where + " ORDER BY application, record_id, name"
		}
		where := "chain = " + b.arg(s.chain) + " AND record_id = " + b.arg(f.RecordID)
		if f.Application != "" {
			where += " AND application = " + b.arg(f.Application)
		}
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		return "SELECT DISTINCT ON (application, record_id) application, record_type, record_id, name FROM audit.record_name WHERE " + where +
			" ORDER BY application, record_id, name"
	}, pgx.RowToStructByPos[Record])
	return list, err
}

func named(ctx context.Context, tx pgx.Tx, many error, sql string, b *builder) ([]string, error) {
	list, err := strs(ctx, tx, sql+" LIMIT "+b.arg(maxNamed+1), b.args)
	if err == nil && len(list) > maxNamed {
		return nil, many
	}
	return list, err
}

func strs(ctx context.Context, tx pgx.Tx, sql string, args []any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if list == nil {
		list = []string{}
	}
	return list, err
}
