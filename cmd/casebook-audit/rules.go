package main

import (
	"fmt"
	"os"

	"casebook.example/audit/mapping"
)

// loadRules reads the mapping file of the configuration.
func loadRules(cfg *Config) (*mapping.Rules, error) {
	text, err := os.ReadFile(cfg.Mapping)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("read the mapping: %w", err)}
	}
	rules, err := mapping.Parse(cfg.Mapping, text)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if rules.Hashes() && cfg.Audit.HashKeyFile == "" {
		return nil, &exitError{exitUsage, fmt.Errorf("%s wants keyed hashes (hashed: ...): name the key's file in audit.hash_key_file", cfg.Mapping)}
	}
	return rules, nil
}
