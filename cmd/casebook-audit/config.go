package main

import "time"

// Config is the configuration file, casebook-audit.yaml. Every key may also stand in the environment as
// CASEBOOK_AUDIT_SECTION_KEY; a DSN also in a file that CASEBOOK_AUDIT_SECTION_KEY_FILE names.
type Config struct {
	Source  SourceConfig  `yaml:"source"`
	Audit   AuditConfig   `yaml:"audit"`
	Mapping string        `yaml:"mapping"` // path of the mapping file, relative to the configuration file
	Query   QueryConfig   `yaml:"query"`
	Metrics MetricsConfig `yaml:"metrics"`
	Ledger  LedgerConfig  `yaml:"ledger"`
}

// SourceConfig says where the audited database is.
type SourceConfig struct {
	DSN         string `yaml:"dsn"`         // everything libpq takes; the role needs REPLICATION
	Slot        string `yaml:"slot"`        // default casebook_audit
	Publication string `yaml:"publication"` // default casebook_audit
}

// AuditConfig says where the audit database is.
type AuditConfig struct {
	DSN       string `yaml:"dsn"`        // as a member of casebook_audit_writer
	ReaderDSN string `yaml:"reader_dsn"` // as a member of casebook_audit_reader
	Chain     string `yaml:"chain"`      // default casebook
}

// QueryConfig is the endpoint. Without a tokens file nobody is let in.
type QueryConfig struct {
	Listen string     `yaml:"listen"` // default 127.0.0.1:8480; "" switches it off
	Auth   AuthConfig `yaml:"auth"`
}

// AuthConfig names the callers.
type AuthConfig struct {
	TokensFile string `yaml:"tokens_file"` // see query.LoadTokens
}

// MetricsConfig is the port of /metrics, /healthz and /readyz.
type MetricsConfig struct {
	Listen string `yaml:"listen"` // default 127.0.0.1:9480; "" switches it off
}

// LedgerConfig is the log's face to the outside.
type LedgerConfig struct {
	SigningKeyFile     string        `yaml:"signing_key_file"`
	Origin             string        `yaml:"origin"` // schema-less name of the log, owned by you, never reused
	CheckpointInterval time.Duration `yaml:"checkpoint_interval"`
	Publish            []string      `yaml:"publish"`
}
