package bundle

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"casebook.example/audit/ledger"
)

// Writer writes a bundle as it comes, in constant memory but for the manifest. What it has written is whole only after
// Close.
type Writer struct {
	zip        *zip.Writer
	manifest   Manifest
	checkpoint []byte
}

// NewWriter begins a bundle under a signed checkpoint.
func NewWriter(w io.Writer, checkpoint []byte, query, tenants string) (*Writer, error) {
	c, err := ledger.ReadCheckpoint(checkpoint)
	if err != nil {
		return nil, err
	}
	out := &Writer{zip: zip.NewWriter(w), manifest: Manifest{Origin: c.Origin, Size: c.Size, Query: query, Tenants: tenants}, checkpoint: checkpoint}
	return out, out.add(checkpointName, checkpoint)
}

func (w *Writer) add(name string, content []byte) error {
	if err := member(w.zip, name, content); err != nil {
		return err
	}
	w.manifest.Files = append(w.manifest.Files, File{sha256.Sum256(content), int64(len(content)), name})
	return nil
}

// member writes one member, the same bytes for the same content.
func member(z *zip.Writer, name string, content []byte) error {
	out, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	return err
}

// Consistency adds the proof that the checkpoint's tree begins with one of old entries.
func (w *Writer) Consistency(old uint64, proof []ledger.Hash) error {
	return w.add(fmt.Sprintf("consistency/%d", old), formatHashes(proof))
}

func formatHashes(list []ledger.Hash) []byte {
	var b strings.Builder
	for _, h := range list {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return []byte(b.String())
}

// Entry adds an entry with its proof.
func (w *Writer) Entry(e *Entry, inclusion []ledger.Hash) error {
	text, err := e.Marshal()
	if err != nil {
		return err
	}
	if err := w.add(fmt.Sprintf("entries/%d.json", e.Seq), text); err != nil {
		return err
	}
	return w.add(fmt.Sprintf("proofs/%d.tlog-proof", e.Seq), ledger.FormatProof(e.Seq, inclusion, w.checkpoint))
}

// Close writes the manifest and gives the bundle's name. newer is how many entries of the query are left out because they
// are not under the checkpoint yet.
func (w *Writer) Close(newer uint64) (name ledger.Hash, err error) {
	w.manifest.Newer = newer
	text := []byte(w.manifest.Text())
	if err := member(w.zip, manifestName, text); err != nil {
		return name, err
	}
	return ledger.ManifestHash(text), w.zip.Close()
}
