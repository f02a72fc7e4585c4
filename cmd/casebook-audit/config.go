package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5/pgconn"

	"casebook.example/audit/ledger"
)

// Config is the configuration file, casebook-audit.yaml. Every key may also stand in the environment as
// CASEBOOK_AUDIT_SECTION_KEY, which wins over the file; a secret also in a file that CASEBOOK_AUDIT_SECTION_KEY_FILE names.
type Config struct {
	Source  SourceConfig  `yaml:"source"`
	Audit   AuditConfig   `yaml:"audit"`
	Mapping string        `yaml:"mapping"` // path of the mapping file, relative to the configuration file
	Query   QueryConfig   `yaml:"query"`
	Metrics MetricsConfig `yaml:"metrics"`
	Ledger  LedgerConfig  `yaml:"ledger"`

	Redaction RedactionConfig  `yaml:"redaction"`
	Retention []RetentionClass `yaml:"retention"` // what no class is about is kept for ever
}

// SourceConfig says where the audited database is.
type SourceConfig struct {
	DSN         string `yaml:"dsn" secret:"true"` // everything libpq takes; the role needs REPLICATION
	Slot        string `yaml:"slot"`              // default casebook_audit
	Publication string `yaml:"publication"`       // default casebook_audit
}

// AuditConfig says where the audit database is.
type AuditConfig struct {
	DSN       string `yaml:"dsn" secret:"true"`        // as a member of casebook_audit_writer
	ReaderDSN string `yaml:"reader_dsn" secret:"true"` // as a member of casebook_audit_reader
	Chain     string `yaml:"chain"`                    // default casebook

	HashKeyFile string `yaml:"hash_key_file"` // 32 bytes or more, for the columns that the mapping wants hashed
}

// QueryConfig is the endpoint. Without a tokens file nobody is let in.
type QueryConfig struct {
	Listen string     `yaml:"listen"` // default 127.0.0.1:8480; "off" switches it off
	Auth   AuthConfig `yaml:"auth"`
	Tiles  string     `yaml:"tiles"` // "public" serves /checkpoint and /tile/ to everybody; default "off"
}

// AuthConfig names the callers.
type AuthConfig struct {
	TokensFile string `yaml:"tokens_file"` // see query.LoadTokens; relative to the configuration file
}

// MetricsConfig is the port of /metrics, /healthz and /readyz.
type MetricsConfig struct {
	Listen string `yaml:"listen"` // default 127.0.0.1:9480; "off" switches it off
}

// LedgerConfig is the log's face to the outside. It is signed where there is a key: in a file, in an ssh-agent, or with a
// signer of its own (`casebook-audit signer`). At most one of the three is set.
type LedgerConfig struct {
	Origin string `yaml:"origin"` // schema-less name of the log, owned by you, never reused; default audit.invalid/CHAIN

	SigningKeyFile    string `yaml:"signing_key_file"`                 // as keygen writes it
	SigningPassphrase string `yaml:"signing_passphrase" secret:"true"` // of the key files
	SecondKeyFile     string `yaml:"second_key_file"`                  // signs too, while keys are being changed
	SigningAgent      string `yaml:"signing_agent"`                    // socket of an ssh-agent
	VerifierKey       string `yaml:"verifier_key"`                     // names the agent's key
	SigningStateFile  string `yaml:"signing_state_file"`               // default: the key file's name and ".state"
	SignerSocket      string `yaml:"signer_socket"`                    // of `casebook-audit signer`

	CheckpointInterval string `yaml:"checkpoint_interval"` // default 1s: entries are signed at most that long after they are durable
	HeartbeatInterval  string `yaml:"heartbeat_interval"`  // default 5m: an idle log gets an entry and a checkpoint that often

	ScrubEdgeInterval string `yaml:"scrub_edge_interval"` // default 1m: the daemon verifies what is new that often
	ScrubInterval     string `yaml:"scrub_interval"`      // default 24h: it verifies everything that often; "off": never
	ScrubRate         string `yaml:"scrub_rate"`          // default 10000: entries a second of that

	Publish []PublishConfig `yaml:"publish"` // places outside that get the signed checkpoints; not in the environment
}

// RedactionConfig says who may have something removed from the log. It is read by redact and verify, not by run.
type RedactionConfig struct {
	DSN           string   `yaml:"dsn" secret:"true"` // member of casebook_audit_redactor who may vacuum the log's tables: its database's owner, or of pg_maintain
	Approvers     []string `yaml:"approvers"`         // verifier keys, as keygen prints them; in the environment separated by commas
	SealRecipient string   `yaml:"seal_recipient"`    // age1..., for the level seal
	WALKept       string   `yaml:"wal_kept"`          // how long archived WAL of the audit database is kept: 14d
	BackupsKept   string   `yaml:"backups_kept"`      // and its backups: 35d, 1y
}

func (c *RedactionConfig) validate(origin string) error {
	seen := map[string]bool{}
	for _, key := range c.Approvers {
		id, err := ledger.ApproverID(key)
		switch {
		case err != nil:
			return fmt.Errorf("redaction.approvers: %w", err)
		case seen[id]:
			return errors.New("redaction.approvers names one key twice")
		case strings.HasPrefix(key, origin+"+"):
			return errors.New("redaction.approvers names the log's own key: who signs checkpoints must not approve removals; make keys with an --origin of each approver's own")
		}
		seen[id] = true
	}
	for key, text := range map[string]string{"wal_kept": c.WALKept, "backups_kept": c.BackupsKept} {
		if text == "" {
			continue
		}
		if _, err := parseSpan(text); err != nil {
			return fmt.Errorf("redaction.%s: %w", key, err)
		}
	}
	return nil
}

// signed says whether checkpoints are to be signed.
func (c *LedgerConfig) signed() bool {
	return c.SigningKeyFile != "" || c.SigningAgent != "" || c.SignerSocket != ""
}

// intervals are the parsed ones; validate has looked at them.
func (c *LedgerConfig) intervals() (checkpoint, heartbeat time.Duration, err error) {
	for _, d := range []struct {
		key, text string
		to        *time.Duration
		min, max  time.Duration
	}{
		{"checkpoint_interval", c.CheckpointInterval, &checkpoint, 100 * time.Millisecond, time.Hour},
		{"heartbeat_interval", c.HeartbeatInterval, &heartbeat, time.Second, 24 * time.Hour},
	} {
		if *d.to, err = time.ParseDuration(d.text); err != nil || *d.to < d.min || *d.to > d.max {
			return 0, 0, fmt.Errorf("ledger.%s %q: use a time from %s to %s, such as 10s", d.key, d.text, d.min, d.max)
		}
	}
	return checkpoint, heartbeat, nil
}

func (c *LedgerConfig) validate() error {
	if strings.Contains(c.Origin, "://") || strings.ContainsAny(c.Origin, " +\n") {
		return fmt.Errorf("ledger.origin %q: use a schema-less name without spaces or +, such as audit.agency.example/casebook", c.Origin)
	}
	ways := 0
	for _, way := range []string{c.SigningKeyFile, c.SigningAgent, c.SignerSocket} {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("ledger: set one of signing_key_file, signing_agent and signer_socket")
	case c.SecondKeyFile != "" && c.SigningKeyFile == "":
		return errors.New("ledger.second_key_file is for a key beside signing_key_file")
	case c.SigningAgent != "" && (c.VerifierKey == "" || c.SigningStateFile == ""):
		return errors.New("ledger.signing_agent needs verifier_key and signing_state_file: `casebook-audit keygen --agent` gives both")
	}
	_, _, err := c.intervals()
	return err
}

const (
	envPrefix   = "CASEBOOK_AUDIT_"
	listenerOff = "off"
	tilesPublic = "public"
)

// loadConfig reads the configuration file that e names and lays the environment over it. A missing file is an error
// unless the name is the default one: then the environment alone may say everything. The error of a wrong file has its
// line and column. No error holds a DSN.
func loadConfig(e *env) (*Config, error) {
	cfg := &Config{}
	text, err := os.ReadFile(e.configFile)
	switch {
	case errors.Is(err, os.ErrNotExist) && e.configFile == defaultConfigFile:
	case err != nil:
		return nil, &exitError{exitUsage, fmt.Errorf("read the configuration: %w", err)}
	default:
		if err := yaml.UnmarshalWithOptions(text, cfg, yaml.Strict()); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("configuration %s: %s", e.configFile, yaml.FormatError(err, false, !mayHoldSecret(text)))}
		}
	}
	if err := overlayEnv(reflect.ValueOf(cfg).Elem(), strings.TrimSuffix(envPrefix, "_")); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	cfg.setDefaults(filepath.Dir(e.configFile))
	if err := cfg.validate(); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("configuration %s: %w", e.configFile, err)}
	}
	return cfg, nil
}

// mayHoldSecret says whether an excerpt of the file in an error message could print a password.
func mayHoldSecret(text []byte) bool {
	return strings.Contains(strings.ToLower(string(text)), "password") || strings.Contains(string(text), "@")
}

// overlayEnv sets each scalar below v from the environment variable of its path.
func overlayEnv(v reflect.Value, name string) error {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		key := name + "_" + strings.ToUpper(field.Tag.Get("yaml"))
		if field.Type.Kind() == reflect.Struct {
			if err := overlayEnv(value, key); err != nil {
				return err
			}
			continue
		}
		if text, ok := os.LookupEnv(key); ok {
			switch value.Kind() {
			case reflect.String:
				value.SetString(text)
			case reflect.Slice:
				if value.Type().Elem().Kind() != reflect.String {
					return fmt.Errorf("%s: a list of this kind stands in the file only", key)
				}
				value.Set(reflect.ValueOf(strings.Split(text, ",")))
			}
		}
		if field.Tag.Get("secret") == "" {
			continue
		}
		if file, ok := os.LookupEnv(key + "_FILE"); ok {
			text, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("%s_FILE: %w", key, err)
			}
			value.SetString(strings.TrimSpace(string(text)))
		}
	}
	return nil
}

func (c *Config) setDefaults(dir string) {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&c.Source.Slot, "casebook_audit")
	set(&c.Source.Publication, "casebook_audit")
	set(&c.Audit.Chain, "casebook")
	set(&c.Mapping, "mapping.yaml")
	set(&c.Query.Listen, "127.0.0.1:8480")
	set(&c.Query.Tiles, listenerOff)
	set(&c.Metrics.Listen, "127.0.0.1:9480")
	set(&c.Ledger.Origin, "audit.invalid/"+c.Audit.Chain)
	set(&c.Ledger.CheckpointInterval, "1s")
	set(&c.Ledger.HeartbeatInterval, "5m")
	set(&c.Ledger.ScrubEdgeInterval, "1m")
	set(&c.Ledger.ScrubInterval, "24h")
	set(&c.Ledger.ScrubRate, "10000")
	if c.Ledger.SigningKeyFile != "" {
		set(&c.Ledger.SigningStateFile, c.Ledger.SigningKeyFile+".state")
	}
	l := &c.Ledger
	l.anchorPaths(dir)
	for _, path := range []*string{&c.Mapping, &c.Query.Auth.TokensFile, &c.Audit.HashKeyFile, &l.SigningKeyFile, &l.SecondKeyFile, &l.SigningStateFile, &l.SigningAgent, &l.SignerSocket} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

func (c *Config) validate() error {
	for _, dsn := range []struct{ key, value string }{
		{"source.dsn", c.Source.DSN}, {"audit.dsn", c.Audit.DSN}, {"audit.reader_dsn", c.Audit.ReaderDSN},
	} {
		if dsn.value == "" {
			return fmt.Errorf("%s is not set: give it in the file or as %s%s", dsn.key, envPrefix, strings.ToUpper(strings.ReplaceAll(dsn.key, ".", "_")))
		}
		if _, err := pgconn.ParseConfig(dsn.value); err != nil {
			return fmt.Errorf("%s is not a connection string that libpq takes (not shown, as it may hold a password)", dsn.key)
		}
	}
	if c.Query.Tiles != listenerOff && c.Query.Tiles != tilesPublic {
		return fmt.Errorf("query.tiles %q: must be %s or %s", c.Query.Tiles, listenerOff, tilesPublic)
	}
	if _, _, _, err := c.Ledger.scrub(); err != nil {
		return err
	}
	if err := c.Redaction.validate(c.Ledger.Origin); err != nil {
		return err
	}
	if _, err := classesAt(c.Retention, time.Now()); err != nil {
		return err
	}
	return c.Ledger.validate()
}

// connectTimeout bounds every first connection to a database.
const connectTimeout = 10 * time.Second
