package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The commented configuration is a valid one and names every key there is. Not parallel: the environment counts.
func TestDeployedConfiguration(t *testing.T) {
	for _, setting := range os.Environ() {
		if name, _, _ := strings.Cut(setting, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	const file = "../../deploy/casebook-audit.yaml"
	if _, err := loadConfig(&env{configFile: file}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var keys func(reflect.Type)
	keys = func(s reflect.Type) {
		for i := range s.NumField() {
			key, _, _ := strings.Cut(s.Field(i).Tag.Get("yaml"), ",")
			if !regexp.MustCompile(`(?m)^ *` + key + `:`).Match(text) {
				t.Errorf("%s does not name the key %s", file, key)
			}
			if s.Field(i).Type.Kind() == reflect.Struct {
				keys(s.Field(i).Type)
			}
		}
	}
	keys(reflect.TypeFor[Config]())
}
