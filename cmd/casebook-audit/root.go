package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitDone        = 0
	exitFinding     = 1 // verification failed, check found faults, a day of the demo did not come out right
	exitUsage       = 2 // wrong use or configuration
	exitUnreachable = 3 // a database cannot be reached
)

// exitError is an error that decides the exit code. Errors without one end with exitUsage when they come from the
// command line or the configuration, else with exitUnreachable when a database did not answer (see exitCode).
type exitError struct {
	code int
	err  error // nil: the command has said everything already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

const defaultConfigFile = "casebook-audit.yaml"

// env is what a command works with: where it prints, and its configuration file.
type env struct {
	stdout, stderr io.Writer
	configFile     string
	json           bool
}

// run is the whole program as a value that a test can start. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	e := &env{stdout: stdout, stderr: stderr}
	root := newRootCmd(e)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintf(stderr, "casebook-audit: %v\n", exit.err)
		}
		return exit.code
	}
	fmt.Fprintf(stderr, "casebook-audit: %v\n", err)
	return exitUsage
}

func newRootCmd(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "casebook-audit",
		Short:         "A hash-chained audit log of a Casebook database, from its replication stream",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&e.configFile, "config", defaultConfigFile, "configuration file")
	root.PersistentFlags().BoolVar(&e.json, "json", false, "print JSON for machines")
	root.AddCommand(newRunCmd(e), newDemoCmd(e), newSetupCmd(e), newCheckCmd(e), newMappingCmd(e), newQueryCmd(e), newExportCmd(e), newStatusCmd(e), newVerifyCmd(e), newReconcileCmd(e), newProveCmd(e), newVerifyBundleCmd(e), newRedactCmd(e), newRetentionCmd(e), newKeygenCmd(e), newSignerCmd(), newVersionCmd(e))
	return root
}
