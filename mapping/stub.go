package mapping

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

type Rules struct{}

func Parse(name string, text []byte) (*Rules, error) { panic("soon") }
func (r *Rules) Tables() []TableFate                 { panic("soon") }
func (r *Rules) Hash() [32]byte                      { panic("soon") }
func (r *Rules) SeedTables() []SeedTable             { panic("soon") }

type Mapper struct{}

func NewMapper(rules *Rules, load func(ctx context.Context, keys []Key) ([]StoredRow, error), log *zap.Logger, reg prometheus.Registerer) *Mapper {
	panic("soon")
}
func (m *Mapper) Map(ctx context.Context, tx *capture.Tx, prevCommit ledger.LSN, emit func(*ledger.Entry) error) error {
	panic("soon")
}
func (m *Mapper) MapHuge(ctx context.Context, tx *capture.Tx, prevCommit ledger.LSN, spill func([]StoredRow) error, emit func(*ledger.Entry) error) error {
	panic("soon")
}
func (m *Mapper) TakeDirty() []StoredRow                { panic("soon") }
func (m *Mapper) DirtyCount() int                       { panic("soon") }
func (m *Mapper) Stored()                               { panic("soon") }
func (m *Mapper) TakeNames() ([]RecordName, []UserName) { panic("soon") }
func (m *Mapper) Seed(table string, values []capture.Value) (StoredRow, *RecordName, *UserName, error) {
	panic("soon")
}
