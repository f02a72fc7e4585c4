package anchor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"casebook.example/audit/ledger"
)

// File appends each checkpoint as a line of JSON to a file, which is to be where the audit database's administrators cannot write
// (chattr +a, another machine's disk). It never changes what is there.
type File struct{ path string }

// NewFile names the file, which is made with the first checkpoint.
func NewFile(path string) *File { return &File{path} }

// line is one line of the file.
type line struct {
	Time string `json:"time"` // RFC 3339, of this machine's clock
	Note string `json:"note"` // the checkpoint as it was signed
}

// tail is how much of the end of the file is read: more than any line has.
const tail = 64 << 10

// Last is the checkpoint of the last whole line, and false where there is none. A line that a full disk or a crash cut off is none.
func (f *File) Last() (c ledger.Checkpoint, ok bool, err error) {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return c, false, err
	}
	end := make([]byte, min(info.Size(), tail))
	if _, err := file.ReadAt(end, info.Size()-int64(len(end))); err != nil && err != io.EOF {
		return c, false, err
	}
	lines := bytes.Split(end, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		var l line
		if json.Unmarshal(lines[i], &l) != nil {
			continue
		}
		if c, err := ledger.ReadCheckpoint([]byte(l.Note)); err == nil {
			return c, true, nil
		}
	}
	if info.Size() == 0 {
		return c, false, nil
	}
	return c, false, fmt.Errorf("%s holds no checkpoint at its end: this is not the file of an anchor", f.path)
}

// Publish appends a line and waits until it is on the disk.
func (f *File) Publish(_ context.Context, p *Published) (string, error) {
	text, err := json.Marshal(line{time.Now().UTC().Format(time.RFC3339), string(p.Signed)})
	if err != nil {
		return "", err
	}
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	out := append(text, '\n')
	if info.Mode().IsRegular() && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, info.Size()-1); err != nil {
			return "", err
		}
		if last[0] != '\n' {
			out = append([]byte{'\n'}, out...) // the line before was cut off
		}
	}
	if _, err := file.Write(out); err != nil {
		return "", err
	}
	if err := file.Sync(); err != nil {
		return "", err
	}
	if info.Size() == 0 {
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d bytes at %d", len(out), info.Size()), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
