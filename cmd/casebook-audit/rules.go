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
	return rules, nil
}
