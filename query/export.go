package query

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Format is what an export is written in.
type Format string

// The formats. CSV is for people: RFC 4180 with a header, one row an entry, changes in one JSON cell, and cells that a
// spreadsheet would run as a formula made harmless with a leading quote. NDJSON is for machines: one Entry a line.
//
// Both end with a line that says that they are whole: "# rows=N sha256=HEX complete" or
// {"rows":N,"sha256":"HEX","complete":true}. The SHA-256 is of all bytes before that line:
//
//	head -n -1 export.csv | sha256sum
const (
	FormatCSV    Format = "csv"
	FormatNDJSON Format = "ndjson"

	// FormatBundle is for evidence: see package bundle. WriteBundle writes it.
	FormatBundle Format = "bundle"
)

// Trailer is what the last line of an export says.
type Trailer struct {
	Rows     int64  `json:"rows"`
	SHA256   string `json:"sha256"`
	Complete bool   `json:"complete"`
}

// Export writes all entries of a filter to w, in constant memory. An error means that what was written is not whole, and
// it has no last line then. progress, if any, is told the number of rows now and then.
func Export(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, f Filter, format Format, w io.Writer, progress func(rows int64)) (trailer *Trailer, err error) {
	err = Read(ctx, conn, chain, caller, 0, func(tx pgx.Tx, s scope) error {
		trailer, err = export(ctx, tx, s, f, format, w, progress)
		return err
	})
	return trailer, err
}

func export(ctx context.Context, tx pgx.Tx, s scope, f Filter, format Format, w io.Writer, progress func(rows int64)) (*Trailer, error) {
	sum := &summing{w: w, hash: sha256.New()}
	write, flush := ndjsonWriter(sum)
	if format == FormatCSV {
		write, flush = csvWriter(sum)
	}
	t := &Trailer{}
	err := eachEntry(ctx, tx, s, f, Page{}, func(e *Entry) error {
		t.Rows++
		if progress != nil && t.Rows%1000 == 0 {
			progress(t.Rows)
		}
		return write(e)
	})
	if err != nil {
		return nil, err
	}
	if err := flush(); err != nil {
		return nil, err
	}
	t.SHA256, t.Complete = hex.EncodeToString(sum.hash.Sum(nil)), true
	if format == FormatCSV {
		_, err = fmt.Fprintf(w, "# rows=%d sha256=%s complete\r\n", t.Rows, t.SHA256)
	} else {
		err = json.NewEncoder(w).Encode(t)
	}
	return t, err
}

// summing hashes what goes through it.
type summing struct {
	w    io.Writer
	hash hash.Hash
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	return n, err
}

func ndjsonWriter(w io.Writer) (func(*Entry) error, func() error) {
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return func(e *Entry) error { return enc.Encode(e) }, out.Flush
}

// csvHeader names the columns of a CSV export.
var csvHeader = []string{
	"seq", "committed_at", "user_id", "user_email", "user_name", "initiator", "action", "summary", "application", "record_type", "record_id",
	"record_name", "resource", "sub_resource", "row_id", "row_name", "changes", "also_under", "remark", "tenant_id", "table", "db_user", "db_app",
	"client_addr", "commit_lsn", "ordinal", "xid", "leaf_hash",
}

// csvWriter writes RFC 4180 with CRLF. encoding/csv with CRLF changes line breaks inside of cells, and an export is to
// hold what the log holds.
func csvWriter(w io.Writer) (func(*Entry) error, func() error) {
	out := bufio.NewWriterSize(w, 64<<10)
	row := func(cells []string) error {
		for i, cell := range cells {
			if i > 0 {
				out.WriteByte(',') // an error stays with the writer until the row's end
			}
			if strings.ContainsAny(cell, "\",\r\n") || strings.TrimSpace(cell) != cell {
				cell = `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
			}
			out.WriteString(cell)
		}
		_, err := out.WriteString("\r\n")
		return err
	}
	begun := false
	header := func() error {
		if begun {
			return nil
		}
		begun = true
		return row(csvHeader)
	}
	return func(e *Entry) error {
			if err := header(); err != nil {
				return err
			}
			cells, err := csvCells(e)
			if err != nil {
				return err
			}
			return row(cells)
		}, func() error {
			if err := header(); err != nil { // also of an empty export
				return err
			}
			return out.Flush()
		}
}

func csvCells(e *Entry) ([]string, error) {
	changes, err := json.Marshal(e.Changes)
	if err != nil {
		return nil, err
	}
	also, err := json.Marshal(e.Also)
	if err != nil {
		return nil, err
	}
	r, p := Record{}, Position{}
	if e.Record != nil {
		r = *e.Record
	}
	ordinal, xid := "", ""
	if e.Position != nil {
		p = *e.Position
		ordinal, xid = strconv.FormatInt(p.Ordinal, 10), strconv.FormatInt(p.XID, 10)
	}
	cells := []string{
		strconv.FormatUint(e.Seq, 10), e.CommittedAt, e.Actor.UserID, e.Actor.Email, e.Actor.Name, e.Actor.Initiator, e.Action, e.Summary, r.Application,
		r.Type, r.ID, r.Name, e.Resource, e.SubResource, e.RowID, e.RowName, string(changes), string(also), e.Remark, e.TenantID, e.Table, e.Actor.DBUser,
		e.Actor.DBApp, e.Actor.ClientAddr, p.CommitLSN, ordinal, xid, e.LeafHash,
	}
	for i, cell := range cells {
		cells[i] = harmless(cell)
	}
	return cells, nil
}

// harmless keeps a spreadsheet from running a cell: OWASP ASVS 5, 1.2.10, with the full-width forms that some treat alike.
func harmless(cell string) string {
	for _, start := range []string{"=", "+", "-", "@", "\t", "\r", "\n", "\x00", "＝", "＋", "－", "＠"} {
		if strings.HasPrefix(cell, start) {
			return "'" + cell
		}
	}
	return cell
}

// export streams a file. When something fails on the way the connection is cut, so that no client takes a part for the
// whole.
func (h *Service) export(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, append([]string{"format", "since"}, FilterParameters()...)...)
	f, more := ParseFilter(p)
	errs = append(errs, more...)
	format := Format(p["format"])
	if format == "" {
		format = FormatCSV
	}
	contentType := map[Format]string{FormatCSV: "text/csv; charset=utf-8; header=present", FormatNDJSON: "application/x-ndjson", FormatBundle: "application/zip"}[format]
	if contentType == "" {
		errs = append(errs, ParameterError{"format", "must be csv, ndjson or bundle"})
	}
	since, err := parseSince(p["since"])
	if err == nil && since != nil && format != FormatBundle {
		err = errors.New("is for format=bundle")
	}
	if err != nil {
		errs = append(errs, ParameterError{"since", err.Error()})
	}
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	select {
	case h.exports <- struct{}{}:
		defer func() { <-h.exports }()
	default:
		w.Header().Set("Retry-After", "30")
		return NewProblem(http.StatusServiceUnavailable, "as many exports are running as may run at once; try again later")
	}
	ending, trailers := string(format), "X-Rows, X-SHA256"
	if format == FormatBundle {
		ending, trailers = "zip", "X-Rows, X-Bundle"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", `attachment; filename="audit-log-`+time.Now().UTC().Format("20060102-150405")+"."+ending+`"`)
	w.Header().Set("Trailer", trailers)
	if r.Method == http.MethodHead {
		return nil
	}
	if format == FormatBundle {
		return h.bundle(r.Context(), w, r, f, since)
	}
	out := &patient{w: w, control: http.NewResponseController(w)}
	var trailer *Trailer
	err = h.read(r.Context(), r.Caller, 0, func(tx pgx.Tx, s scope) (err error) {
		trailer, err = export(r.Context(), tx, s, f, format, out, nil)
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("X-Rows", strconv.FormatInt(trailer.Rows, 10))
	w.Header().Set("X-SHA256", trailer.SHA256)
	return nil
}

// patient moves the write deadline on with every write: an export may last for hours, a client that takes nothing may not.
type patient struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(exportStall)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
