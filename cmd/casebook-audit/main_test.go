package main

import (
	"testing"

	"casebook.example/audit/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }
