// Package anchor hands signed checkpoints to places outside of the audit database: a file, an HTTP address, a syslog server, a
// witness. Whoever rewrites the log cannot rewrite those too. Each target belongs to one goroutine.
package anchor

import (
	"context"
	"time"

	"casebook.example/audit/ledger"
)

// Published is what a target is given: a checkpoint, as it was signed.
type Published struct {
	ledger.Checkpoint
	Signed []byte

	// Prove proves that the tree begins with the first old entries.
	Prove func(ctx context.Context, old uint64) ([]ledger.Hash, error)
}

// Target takes checkpoints. Publish returns what the target gave for it, at most a few KiB; every error may pass by itself.
type Target interface {
	Publish(ctx context.Context, p *Published) (receipt string, err error)
}

// timeout bounds one exchange with a target.
const timeout = 20 * time.Second

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 10
