package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"strconv"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// chunkRows and chunkBytes bound what one worker is given at once. Two chunks a worker are under way.
const (
	chunkRows  = 256
	chunkBytes = 1 << 20
)

// binaryRows runs a query and gives each row in the binary format. What take gets is valid until it returns.
func binaryRows(ctx context.Context, tx pgx.Tx, sql string, take func(values [][]byte) error, args ...int64) error {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = strconv.AppendInt(nil, a, 10)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := tx.Conn().PgConn().ExecParams(ctx, sql, params, nil, nil, []int16{pgx.BinaryFormatCode})
	for result.NextRow() {
		if err := take(result.Values()); err != nil {
			_, _ = result.Close() // it reads the stretch to its end: the connection stays of use
			return err
		}
	}
	_, err := result.Close()
	return err
}

// chunk is a stretch of rows on its way through a worker.
type chunk struct {
	data []byte
	ends []int32 // of each value in data; -1: NULL
	rows []checkedRow
	done chan struct{}
}

// checkedRow is a row with the commitment of its content, or why it cannot be one of ours.
type checkedRow struct {
	row     *ledger.Row
	content ledger.Hash
	further alsoChecker
	wrong   error // in what is derived from it
	err     error
}

func (c *chunk) add(values [][]byte) {
	for _, v := range values {
		if v == nil {
			c.ends = append(c.ends, -1)
			continue
		}
		c.data = append(c.data, v...)
		c.ends = append(c.ends, int32(len(c.data)))
	}
}

func (c *chunk) count() int { return len(c.ends) / stored.NumRaw }

// check decodes the rows and computes their commitments.
func (c *chunk) check(hasher *ledger.Hasher) {
	text, at := string(c.data), int32(0)
	c.rows = make([]checkedRow, c.count())
	for i := range c.rows {
		var values [stored.NumRaw]string
		var null [stored.NumRaw]bool
		for j, end := range c.ends[i*stored.NumRaw : (i+1)*stored.NumRaw] {
			if null[j] = end < 0; !null[j] {
				values[j], at = text[at:end], end
			}
		}
		r := &c.rows[i]
		if r.row, r.err = stored.DecodeRow(&values, &null); r.err == nil {
			if r.content, r.err = hasher.Content(r.row); r.err == nil {
				r.further, r.wrong = furtherOf(r.row)
			}
		}
	}
	c.data, c.ends = nil, nil
	close(c.done)
}

// entries reads entries from from up to bound (negative: to the end) and calls check for each, in their order. Commitments are computed on all processors; memory is bounded by the chunks under way.
func entries(ctx context.Context, tx pgx.Tx, chain int32, from uint64, bound int64, check func(r *checkedRow) error) error {
	workers := runtime.GOMAXPROCS(0)
	work := make(chan *chunk, workers)
	order := make(chan *chunk, 2*workers)
	for range workers {
		go func() {
			hasher := ledger.NewHasher()
			for c := range work {
				c.check(hasher)
			}
		}()
	}
	// Everything in order is read here, so that nobody waits for a place in it for ever.
	failed := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		var err error
		for c := range order {
			<-c.done
			for i := range c.rows {
				if err != nil {
					break
				}
				if err = c.rows[i].err; err == nil {
					err = check(&c.rows[i])
				}
				if err != nil {
					close(stop)
				}
			}
		}
		failed <- err
	}()
	c := &chunk{done: make(chan struct{})}
	send := func() {
		if c.count() > 0 {
			order <- c
			work <- c
			c = &chunk{done: make(chan struct{}), data: make([]byte, 0, len(c.data)+len(c.data)/8), ends: make([]int32, 0, len(c.ends))}
		}
	}
	read := binaryRows(ctx, tx, "SELECT "+stored.RawColumns+" FROM audit.entry WHERE chain = $1 AND seq >= $2 AND ($3::bigint < 0 OR seq < $3) ORDER BY seq", func(values [][]byte) error {
		select {
		case <-stop:
			return errStopped
		default:
		}
		c.add(values)
		if c.count() >= chunkRows || len(c.data) >= chunkBytes {
			send()
		}
		return nil
	}, int64(chain), int64(from), bound)
	send()
	close(work)
	close(order)
	if err := <-failed; err != nil {
		return err
	}
	return explain(read)
}

// errStopped ends the reading when a row before was found bad.
var errStopped = errors.New("a row before is bad")

// leaves reads the leaf columns alone.
func leaves(ctx context.Context, tx pgx.Tx, chain int32, from uint64, bound int64, check func(leaf *ledger.Leaf, hash ledger.Hash) error) error {
	leaf := &ledger.Leaf{}
	err := binaryRows(ctx, tx, "SELECT seq, kind, prev, recorded_us, commitment, leaf_hash FROM audit.leaf WHERE chain = $1 AND seq >= $2 AND ($3::bigint < 0 OR seq < $3) ORDER BY seq", func(v [][]byte) error {
		if len(v[0]) != 8 || len(v[1]) != 2 || len(v[2]) != 32 || len(v[3]) != 8 || len(v[4]) != 32 || len(v[5]) != 32 || v[1][0] != 0 {
			seq := from
			if len(v[0]) == 8 {
				seq = binary.BigEndian.Uint64(v[0])
			}
			return &ledger.BrokenError{Seq: seq, Detector: ledger.DetectLeaf, Reason: "a column of the leaf is NULL or of the wrong length"}
		}
		leaf.Seq, leaf.Kind = binary.BigEndian.Uint64(v[0]), ledger.Kind(v[1][1])
		leaf.Prev, leaf.Commitment = ledger.Hash(v[2]), ledger.Hash(v[4])
		leaf.RecordedUS = int64(binary.BigEndian.Uint64(v[3]))
		return check(leaf, ledger.Hash(v[5]))
	}, int64(chain), int64(from), bound)
	return explain(err)
}
