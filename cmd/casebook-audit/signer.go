package main

import (
	"errors"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"casebook.example/audit/signer"
)

func newSignerCmd() *cobra.Command {
	var cfg LedgerConfig
	var socket string
	cmd := &cobra.Command{
		Use:   "signer",
		Short: "Sign checkpoints for a daemon, as a process and a user of its own",
		Long: `Signer holds the signing key and answers on a unix socket, which its owner and its group may use. Run it under a user of
its own, on a machine that the administrators of the audit database do not administer where that is possible; the daemon
finds it by ledger.signer_socket. It signs a checkpoint only with a proof that the log begins with what it signed last,
which it keeps in its state file: a log that was rewritten, shortened or rolled back gets no signature.

It reads no configuration file. The passphrase of the key files comes from CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE, or a file
that CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE_FILE names.`,
		Example: "  casebook-audit signer --key /etc/casebook-signer/signing.key --socket /run/casebook-signer/signer.sock\n" +
			"  casebook-audit signer --agent $SSH_AUTH_SOCK --verifier-key 'audit.agency.example/casebook+1a2b3c4d+AR...' --state signer.state --socket signer.sock",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.SigningPassphrase, err = passphraseFromEnv(); err != nil {
				return &exitError{exitUsage, err}
			}
			cfg.CheckpointInterval, cfg.HeartbeatInterval = "1s", "5m" // the daemon's
			if cfg.SigningStateFile == "" && cfg.SigningKeyFile != "" {
				cfg.SigningStateFile = cfg.SigningKeyFile + ".state"
			}
			switch {
			case socket == "":
				err = errors.New("--socket is missing: where the daemon asks")
			case !cfg.signed():
				err = errors.New("--key or --agent is missing: what to sign with")
			default:
				err = cfg.validate()
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			log, err := newLogger()
			if err != nil {
				return err
			}
			defer log.Sync()
			opened, err := openNotary(&cfg)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			defer opened.Close()
			s := opened.(*signer.Signer)
			listener, err := signer.Listen(socket)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			log.Info("signing", zap.String("origin", s.Origin()), zap.String("socket", socket))
			return signer.Serve(cmd.Context(), listener, s, log)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "unix socket to answer on")
	cmd.Flags().StringVar(&cfg.SigningKeyFile, "key", "", "key file that keygen wrote")
	cmd.Flags().StringVar(&cfg.SecondKeyFile, "second-key", "", "a key that signs too, while keys are being changed")
	cmd.Flags().StringVar(&cfg.SigningStateFile, "state", "", "state file (default: the key file's name and .state)")
	cmd.Flags().StringVar(&cfg.SigningAgent, "agent", "", "socket of an ssh-agent that has the key")
	cmd.Flags().StringVar(&cfg.VerifierKey, "verifier-key", "", "names the agent's key")
	return cmd
}
