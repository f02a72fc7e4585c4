package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"casebook.example/audit/signer"
)

func newKeygenCmd(e *env) *cobra.Command {
	var origin, keyFile, stateFile, agentSocket, fingerprint string
	var ask bool
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the signing key of a log and print its verifier key",
		Long: `Keygen makes an Ed25519 key for a log and the state file of its signer, both with mode 0600; files that are there are left
alone. It prints the verifier key, which is not secret: give it to everybody who is to verify, and by another way than the
log itself.

With --passphrase, or CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE in the environment, the key file is encrypted: it is an age
file with a passphrase, which the program age opens too. With --agent the key is one that an ssh-agent has already, in
hardware perhaps, and only the state file is made.`,
		Example: "  casebook-audit keygen --origin audit.agency.example/casebook --key /etc/casebook-audit/signing.key\n" +
			"  casebook-audit keygen --origin audit.agency.example/casebook --agent $SSH_AUTH_SOCK --state /var/lib/casebook-audit/signer.state",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var vkey string
			var err error
			switch {
			case origin == "":
				err = errors.New("--origin is missing: the name of the log, as ledger.origin has it")
			case agentSocket != "" && (keyFile != "" || stateFile == ""):
				err = errors.New("--agent wants --state and no --key")
			case agentSocket != "":
				vkey, err = keyFromAgent(agentSocket, origin, fingerprint, stateFile)
			case keyFile == "":
				err = errors.New("--key is missing: the file to write")
			default:
				if stateFile == "" {
					stateFile = keyFile + ".state"
				}
				vkey, err = keyToFile(e, origin, keyFile, stateFile, ask)
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if e.json {
				return json.NewEncoder(e.stdout).Encode(map[string]string{"verifier_key": vkey, "state_file": stateFile})
			}
			fmt.Fprintln(e.stdout, vkey)
			fmt.Fprintf(e.stderr, "Whoever verifies needs a policy file of two lines:\n\n    log %s\n    quorum none\n\nThe state file %s remembers what was signed: keep it with the signer, not with the audit database.\n", vkey, stateFile)
			return nil
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "", "name of the log, as ledger.origin has it")
	cmd.Flags().StringVar(&keyFile, "key", "", "key file to write")
	cmd.Flags().StringVar(&stateFile, "state", "", "state file to write (default: the key file's name and .state)")
	cmd.Flags().BoolVar(&ask, "passphrase", false, "ask for a passphrase on the terminal")
	cmd.Flags().StringVar(&agentSocket, "agent", "", "socket of an ssh-agent that has the key")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "which of the agent's keys, as ssh-add -l prints it")
	return cmd
}

func keyToFile(e *env, origin, keyFile, stateFile string, ask bool) (vkey string, err error) {
	passphrase, err := passphraseFromEnv()
	if err != nil {
		return "", err
	}
	if ask {
		if passphrase, err = askPassphrase(e); err != nil {
			return "", err
		}
	}
	for _, file := range []string{keyFile, stateFile} {
		if _, err := os.Lstat(file); err == nil {
			return "", fmt.Errorf("%s is there already and is left alone: name another file", file)
		}
	}
	private, key, err := signer.Generate(origin)
	if err != nil {
		return "", err
	}
	if err := signer.WriteKeyFile(keyFile, private, passphrase); err != nil {
		return "", err
	}
	return key.VKey, signer.WriteState(stateFile, key)
}

func keyFromAgent(socket, origin, fingerprint, stateFile string) (vkey string, err error) {
	if vkey, err = signer.AgentVKey(socket, origin, fingerprint); err != nil {
		return "", err
	}
	key, err := signer.AgentKey(socket, vkey)
	if err != nil {
		return "", err
	}
	return vkey, signer.WriteState(stateFile, key)
}

func askPassphrase(e *env) (string, error) {
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		return "", errors.New("--passphrase asks on a terminal, and there is none: use CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE_FILE")
	}
	var typed [2]string
	for i, prompt := range []string{"Passphrase: ", "Again: "} {
		fmt.Fprint(e.stderr, prompt)
		text, err := term.ReadPassword(terminal)
		fmt.Fprintln(e.stderr)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] || typed[0] == "" {
		return "", errors.New("the passphrase was empty, or not the same twice; nothing was written")
	}
	return typed[0], nil
}
